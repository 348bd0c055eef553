"""What nobody wrote by hand, by its name: packages, builds, caches, archives, binaries, lock files, generated code.

A source whose root is such a directory is read all the same: somebody named it.
"""

import re

_DIRECTORIES = frozenset(
    """.git .hg .svn .bzr cvs _darcs .jj
    node_modules bower_components jspm_packages web_modules vendor vendored vendors third_party third-party thirdparty
    site-packages dist-packages pods carthage deps_cache
    build builds _build dist target cmakefiles deriveddata __pycache__ htmlcov coverage .eggs .next .nuxt .output
    .svelte-kit .parcel-cache .turbo .gradle .mvn .terraform .serverless storybook-static
    cache caches _cache .cache tmp temp .tox .nox .venv venv virtualenv .virtualenvs
    .mypy_cache .pytest_cache .ruff_cache .hypothesis .ipynb_checkpoints
    archive archives archived _archive _archives attic backup backups
    trash .trash .trashes $recycle.bin lost+found""".split()  # noqa: SIM905 -- one name a line is no easier to read
)
_DIRECTORY = re.compile(
    r".*\.egg-info|cmake-build-.*|bazel-.*|.*\.(?:app|framework|xcodeproj|xcassets)|\.trash-\d+", re.DOTALL
)
MARKS = frozenset(("pyvenv.cfg", "CACHEDIR.TAG"))
"""Files that say what the directory they lie in is: a virtual environment, a cache."""
_BINARY = frozenset(
    """.png .jpg .jpeg .gif .bmp .ico .icns .webp .avif .heic .tif .tiff .psd .ai .eps .svgz .mp3 .mp4 .m4a .m4v .wav
    .flac .ogg .opus .aac .avi .mov .mkv .webm .woff .woff2 .ttf .otf .eot .exe .dll .so .dylib .a .o .obj .lib .bin
    .elf .hex .uf2 .img .iso .dmg .pkg .msi .deb .rpm .apk .ipa .class .jar .war .ear .pyc .pyo .pyd .wasm .pdb .ko
    .db .sqlite .sqlite3 .mdb .parquet .feather .arrow .npy .npz .pt .pth .onnx .safetensors .gguf .ckpt .h5 .hdf5
    .pkl .pickle .joblib .mat .rdata .rds .dat .swp .swo .lnk .sys .cab .blend .fbx .glb .stl .step .dwg""".split()  # noqa: SIM905
)
_ARCHIVE = frozenset(
    """.zip .tar .gz .tgz .bz2 .tbz .xz .txz .zst .lz4 .lzma .7z .rar .z .br .whl .egg .crate .gem .nupkg
    .vsix .xpi""".split()  # noqa: SIM905
)
_NAMES = re.compile(
    r"""
    (?P<lock_file>
        (?:package-lock|npm-shrinkwrap|composer-lock|deno\.lock|packages\.lock)\.json | pnpm-lock\.ya?ml | go\.sum
        | (?:.*[.-])?lock(?:file)? | .*\.lock(?:\.(?:json|ya?ml|toml|txt|hcl))? | bun\.lockb | packages\.resolved
    ) | (?P<minified>
        .*[.-]min\.(?:js|mjs|cjs|css|html|json) | .*\.(?:bundle|chunk|packed)\.(?:js|mjs|cjs|css) | .*\.map
    ) | (?P<generated>
        .*\.pb\.(?:h|cc|cpp|go|swift) | .*_pb2(?:_grpc)?\.pyi? | .*_pb\.(?:js|d\.ts|ts) | .*\.g\.(?:ts|dart|cs)
        | moc_.*\.cpp | ui_.*\.h | qrc_.*\.cpp | .*\.designer\.cs | .*[._-]generated\.[a-z]+ | .*\.gen\.(?:ts|js|go)
        | parsetab\.py | _version\.py | .*~ | \.\#.* | \#.*\#
    )
    """,
    re.VERBOSE | re.DOTALL,
)


def is_noise_directory(name: str) -> bool:
    lower = name.lower()
    return lower in _DIRECTORIES or _DIRECTORY.fullmatch(lower) is not None


def noise(name: str, extension: str) -> str | None:
    """Why a file is left out, as one of a small set; none where it may be read. `extension` is in lower case."""
    if extension in _BINARY:
        return "binary"
    if extension in _ARCHIVE:
        return "archive"
    named = _NAMES.fullmatch(name.lower())
    return None if named is None else (named.lastgroup or "generated").replace("_", "-")
