"""What is never read, whatever is configured: files and directories that usually hold credentials.

Names decide, in any case of letters; nothing is opened to find out. Files whose text merely mentions a secret are read:
the secret is taken out of it.
"""

import re

_DATA = r"(?:json|ya?ml|toml|ini|cfg|conf|config|properties|csv|tsv|xml|txt|md|db|sqlite3?|enc|bak|old|orig)"
_FILES = re.compile(
    r"""
      \.env(?:rc|\..*|-.*|_.*)? | dotenv | \.dev\.vars
    | env\.(?:local|dev(?:elopment)?|stag(?:e|ing)|prod(?:uction)?|secrets?)
    | .*\.(?:env|pem|key|ppk|p12|pfx|p8|pkcs12|jks|jceks|bks|keystore|truststore|kdbx?|psafe3|agilekeychain|opvault
           |keychain|keychain-db|gpg|pgp|asc|age|keytab|ovpn|rdp|tfstate|tfstate\.backup|tfvars|tfvars\.json
           |mobileprovision|htpasswd|nmconnection|kubeconfig|rsa|dsa|ecdsa|ed25519)
    | (?:.*[._ -])?(?:
          id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?(?:[._-].*)? | (?:private[-_]?|priv)keys?(?:\.{data})?
        | (?:passwords|(?:passw|kennw)(?:o|ö|oe)rte?r?)(?:[._ -]\d+)*(?:\.{data})? | recovery[-_ ]?codes?(?:\..*)?
        | cred(?:ential)?s?(?:\.{data})* | secrets?(?:\.[\w-]+)*?(?:\.{data})+ | secrets? | token(?:\.txt)?
        | (?:secrets?|cred(?:ential)?s?|passwords?)\.(?:h|hpp|ino))
    | secrets\.py | \.?pass(?:word|wd|phrase)s?(?:\.{data})? | (?:mnemonic|seed[-_]?phrase)s?(?:\.{data})?
    | (?:ssh_host_.*_key|authorized_keys\d?|known_hosts)(?:\..*)? | (?:deploy|ssh|signing)[-_]?key
    | [._]?netrc(?:\..*)? | \.?pgpass | pgpass\.conf | \.?my\.cnf | \.mylogin\.cnf | \.npmrc
    | \.yarnrc(?:\.yml)? | \.pypirc | \.renviron | \.?smbcredentials | kaggle\.json
    | \.git-credentials | \.gitcookies | \.htdigest | \.dockercfg | \.dockerconfigjson | \.s3cfg | \.boto
    | \.vault[-_]token | \.vault[-_]pass.* | vault[-_]pass(?:word)?.* | \.fetchmailrc | \.msmtprc | \.muttrc
    | \.?rclone\.conf | \.esmtprc | \.cargo-credentials | \.terraformrc | terraform\.rc | \.claude\.json(?:\..*)?
    | auth\.json | kubeconfig(?:\..*)? | shadow-? | gshadow-? | htpasswd | wp-config\.php
    | wpa_supplicant(?:-.*)?\.conf | wg\d+\.conf | sftp-config\.json | \.ftpconfig
    | (?:filezilla|sitemanager|recentservers)\.xml | wallet\.(?:dat|json) | rootkeys?\.csv
    | logins\.json | key[34]\.db | cookies(?:\.(?:sqlite|txt))? | login[ ]data
    | (?:client[-_]?secrets?|service[-_]?account|gcp[-_]?key|tokens?|(?:.*-)?firebase-adminsdk)(?:[._-].*)?\.json
    | \.?(?:access[-_]?|api[-_]?|auth[-_]?|refresh[-_]?)(?:tokens?|keys?)(?:\.{data})?
    """.replace("{data}", _DATA),
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_COPY = re.compile(r"(?:~|#|\.(?:bak|backup|old|orig|save|copy|tmp|sw[a-p]|disabled|txt|\d{1,3}))+\Z", re.IGNORECASE)
"""The end of a name that editors and people give to a copy of a file."""
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
    if _FILES.fullmatch(name) is not None:
        return True
    original = _COPY.sub("", name.removeprefix("#"))
    return original not in ("", name) and _FILES.fullmatch(original) is not None


def is_forbidden_directory(name: str, parent: str) -> bool:
    """Whether a directory is never entered; `parent` is the name of the one that it lies in."""
    lower = name.lower()
    return lower in _DIRECTORIES or (lower in _CONFIGURED and parent.lower() in _HOMES)


def is_forbidden_path(path: str) -> bool:
    """Whether any part of a path is a directory that is never entered."""
    parts = path.split("/")
    return any(is_forbidden_directory(name, parent) for parent, name in zip(["", *parts], parts, strict=False))
