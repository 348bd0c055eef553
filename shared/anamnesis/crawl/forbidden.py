"""What is never read, whatever is configured: files and directories that usually hold credentials.

Names decide, in any case of letters; nothing is opened to find out. Files whose text merely mentions a secret are read:
the secret is taken out of it.
"""

import re

_DATA = r"(?:json|ya?ml|toml|ini|cfg|conf|config|properties|csv|tsv|xml|txt|md|db|sqlite3?|enc|bak|old|orig)"
_FILES = re.compile(
    r"""
      \.env(?:rc|\..*|-.*|_.*)? | .*\.env
    | .*\.(?:pem|key|ppk|p12|pfx|p8|pkcs12|jks|jceks|bks|keystore|truststore|kdbx?|psafe3|agilekeychain|opvault
           |keychain|keychain-db|gpg|pgp|asc|age|keytab|ovpn|rdp|tfstate|tfstate\.backup|tfvars|tfvars\.json|mobileprovision)
    | (?:.*[._-])?id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?(?:[._-].*)? | .*\.(?:rsa|dsa|ecdsa|ed25519)
    | (?:ssh_host_.*_key|authorized_keys\d?|known_hosts)(?:\..*)?
    | [._]netrc(?:\..*)? | \.pgpass | pgpass\.conf | \.my\.cnf | \.mylogin\.cnf | \.npmrc
    | \.yarnrc(?:\.yml)? | \.pypirc
    | \.git-credentials | \.gitcookies | \.htpasswd | \.htdigest | \.dockercfg | \.dockerconfigjson | \.s3cfg | \.boto
    | \.vault[-_]token | \.vault[-_]pass.* | vault[-_]pass(?:word)?.* | \.fetchmailrc | \.msmtprc | \.muttrc
    | \.?rclone\.conf | \.esmtprc | \.cargo-credentials | \.terraformrc | terraform\.rc | \.claude\.json(?:\..*)?
    | auth\.json | kubeconfig(?:\..*)? | .*\.kubeconfig | master\.key | shadow-? | gshadow-? | htpasswd
    | wp-config\.php | \.?pass(?:word|wd|phrase)s?(?:\.{data})? | (?:.*[._-])?recovery[-_ ]?codes?(?:\..*)?
    | \.?(?:.*[._-])?credentials?(?:\.{data})* | \.?(?:.*[._-])?secrets?(?:\.{data})*
    | (?:client[-_]?secrets?|service[-_]?account|gcp[-_]?key|tokens?)(?:[._-].*)?\.json
    | \.?(?:access[-_]?|api[-_]?|auth[-_]?|refresh[-_]?)(?:tokens?|keys?)(?:\.{data})?
    """.replace("{data}", _DATA),
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_DIRECTORIES = frozenset(
    """.ssh .gnupg .gpg .aws .azure .gcloud .oci .kube .docker .password-store .pki .vault .vault-token .secrets .secret
    .credentials .keys .keyring .keyrings keyrings keychains .1password .bitwarden .lastpass .mozilla .thunderbird
    .electrum .bitcoin .ethereum .monero .tor .terraform.d .chef .puppetlabs .minikube .helm .rclone .step .certs
    .age .sops .krb5 .subversion .anamnesis secrets credentials""".split()  # noqa: SIM905 -- one name a line is no easier to read
)
_CONFIGURED = frozenset(
    """gh glab hub gcloud op rclone sops age doctl heroku stripe netlify vercel configstore google-chrome chromium
    bravesoftware microsoft-edge vivaldi opera keepassxc keepass git-credential helm containers flyctl wrangler
    anamnesis""".split()  # noqa: SIM905
)
"""Below `.config` and the like."""
_HOMES = frozenset((".config", ".local", "share", "application support"))


def is_forbidden_file(name: str) -> bool:
    return _FILES.fullmatch(name) is not None


def is_forbidden_directory(name: str, parent: str) -> bool:
    """Whether a directory is never entered; `parent` is the name of the one that it lies in."""
    lower = name.lower()
    return lower in _DIRECTORIES or (lower in _CONFIGURED and parent.lower() in _HOMES)


def is_forbidden_path(path: str) -> bool:
    """Whether any part of a path is a directory that is never entered."""
    parts = path.split("/")
    return any(is_forbidden_directory(name, parent) for parent, name in zip(["", *parts], parts, strict=False))
