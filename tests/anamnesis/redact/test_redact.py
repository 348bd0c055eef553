"""What is taken out of a text, what is left alone, and what it costs."""

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anamnesis.redact import MARKER, redact
from anamnesis.redact.formats import FORMATS
from tests.anamnesis.timing import assert_linear

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
BASE32 = string.ascii_uppercase + "234567"


def _some(length: int, alphabet: str = ALNUM, seed: int = 7) -> str:
    """A made-up secret: the same in every run, and never one that worked anywhere."""
    dice = random.Random(f"{seed}:{length}:{alphabet}")
    return "".join(dice.choice(alphabet) for _ in range(length - 1)) + ("7" if "7" in alphabet else "a")


KEYS = {
    "anamnesis-key": "anm_" + _some(43),
    "anthropic-key": "sk-ant-" + "api03-" + _some(95),
    "openai-key": "sk-" + "proj-" + _some(100),
    "openrouter-key": "sk-or-v1-" + _some(64, HEX),
    "aws-access-key": "AKIA" + _some(16, BASE32),
    "github-token": "ghp_" + _some(36),
    "gitlab-token": "glpat-" + _some(20),
    "slack-token": "xox" + "b-123456789012-1234567890123-" + _some(24),
    "stripe-key": "sk_" + "live_" + _some(24),
    "google-key": "AIza" + _some(35),
    "google-oauth": "ya29." + _some(80),
    "huggingface-token": "hf_" + _some(34, string.ascii_letters),
    "npm-token": "npm_" + _some(36),
    "pypi-token": "pypi-AgEIcHlwaS5vcmc" + _some(120),
    "sendgrid-key": "SG." + _some(22) + "." + _some(43),
    "twilio-key": "SK" + _some(32, HEX),
    "telegram-token": "123456789:AA" + _some(33),
    "discord-token": "M" + _some(23) + "." + _some(6) + "." + _some(38),
    "databricks-token": "dapi" + _some(32, HEX),
    "digitalocean-token": "dop_v1_" + _some(64, HEX),
    "vault-token": "hvs." + _some(90),
    "doppler-token": "dp.audit." + _some(43),
    "groq-key": "gsk_" + _some(52),
    "azure-key": _some(52) + "JQQJ99" + _some(26),
    "mailgun-key": "key-" + _some(32, HEX),
    "jwt": "eyJ" + _some(33) + ".eyJ" + _some(80) + "." + _some(43),
}
PLACES = [
    "{}",
    "the key is {} and it works.",
    'client = Client("{}")',
    "first\\n{}\\nthird",
    "日本語{}日本語",
    "https://api.example.org/v1?k={}&page=2",
    "x=({})",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KEYS)
def test_a_known_key_goes_wherever_it_stands(kind: str, place: str) -> None:
    """A provider's key is replaced by its kind, and what stands around it stays."""
    found = redact(place.format(KEYS[kind]))
    assert found.text == place.format(f"[REDACTED:{kind}]")
    assert found.counts == {kind: 1}


def test_every_format_can_be_reached() -> None:
    """Each line of the table has a kind that fits the marker."""
    assert all(MARKER.fullmatch(f"[REDACTED:{kind}]") for kind, _ in FORMATS)


DJANGO = f"django-insecure-{_some(20)}^&*(-_=+{_some(14)}"
LEAKS = [
    ('WiFi.begin(ssid, "correct-horse-9");', "correct-horse-9"),
    ('wifiMulti.addAP("home", "hunter2hunter2");', "hunter2"),
    ('  psk="hunter22hunter"', "hunter22"),
    ("DB_PASSWORD=swordfish", "swordfish"),
    ("PGPASSWORD=abcd psql -h db", "abcd"),
    ("password: hunter2", "hunter2"),
    ("password = 'swordfish'", "swordfish"),
    ('"password": "tr0ub4dor&3"', "tr0ub4dor"),
    ('{\\"password\\": \\"hunter22\\"}', "hunter22"),
    ("my password is hunter2!", "hunter2"),
    ("password: str = 'hunter2'", "hunter2"),
    ("<password>hunter2</password>", "hunter2"),
    ("- name: DB_PASSWORD\n  value: hunter2", "hunter2"),
    (f"api_key: {_some(32)}", _some(32)),
    (f"OPENAI_KEY={_some(40)}", _some(40)),
    (f'"clientSecret": "{_some(24)}"', _some(24)),
    ("deploy --password hunter2 now", "hunter2"),
    (f"deploy --token {_some(30)}", _some(30)),
    ("mysql -u root -phunter2 db", "hunter2"),
    ("curl -u bob:hunter2 http://x", "hunter2"),
    ("sshpass -p 'hunter2' ssh host", "hunter2"),
    ("postgres://bob:hunter2@db/x", "hunter2"),
    ("postgres://bob:hun/ter2@db/x", "ter2"),
    ("https://bob:h%40nter2@example.org/", "h%40nter2"),
    ("mongodb://u:s3cr3tpw@h1:27017,h2:27017/db", "s3cr3tpw"),
    ("Authorization: Basic Ym9iOmh1bnRlcjI=", "Ym9iOmh1bnRlcjI"),
    (f"-H 'Authorization: Bearer {_some(30)}'", _some(30)),
    (f"Cookie: session={_some(30)}; theme=dark", _some(30)),
    (f"aws_secret_access_key = {_some(40, ALNUM + '/+')}", _some(40, ALNUM + "/+")),
    (f"AKIA{_some(16, BASE32)},{_some(40, ALNUM + '/+')}", _some(40, ALNUM + "/+")),
    (f"AccountKey={_some(86)}==;EndpointSuffix=x", _some(86)),
    (f"https://a.blob.core.windows.net/c?sv=2024&sig={_some(43)}%3D", _some(43)),
    (f"https://hooks.slack.com/services/T0/B0/{_some(24)}", _some(24)),
    (f"//registry.npmjs.org/:_authToken={_some(36)}", _some(36)),
    (f'{{"kty":"OKP","d":"{_some(43)}"}}', _some(43)),
    (f"SECRET_KEY = '{DJANGO}'", DJANGO),
    (f"client-key-data: LS0tLS1CRUdJTi{_some(80)}", "LS0tLS1CRUdJTi"),
    ('"auths": {"registry": {"auth": "Ym9iOmh1bnRlcjI="}}', "Ym9iOmh1bnRlcjI"),
    ("//registry.example.org/:_auth=Ym9iOmh1bnRlcjI=", "Ym9iOmh1bnRlcjI"),
    (f"GITHUB_PAT={_some(30)}", _some(30)),
    (f"aws configure set aws_secret_access_key {_some(40, ALNUM + '/+')}", _some(40, ALNUM + "/+")),
    ("ENV DB_PASSWORD swordfish", "swordfish"),
    (f"setx API_TOKEN {_some(30)}", _some(30)),
    (f"set -x API_TOKEN {_some(30)}", _some(30)),
    ("machine example.org login bob password swordfish", "swordfish"),
    ("machine example.org\n  login bob\n  password swordfish", "swordfish"),
    ("docker login -u bob -p hunter22 registry.example.org", "hunter22"),
    ("mysql -u root -p'hunter22' db", "hunter22"),
    ("smtp://bob@example.net:hunter22@mail.example.net", "hunter22"),
    ("root:hunter22@tcp(db:3306)/shop", "hunter22"),
    ('dsn := "root:hunter22@unix(/run/mysqld.sock)/shop"', "hunter22"),
    ("http://corp\\bob:hunter22@proxy:8080", "hunter22"),
    (f"https://{_some(40, HEX)}@github.com/a/b", _some(40, HEX)),
    ('DB_PASSWORD="correct horse battery staple"', "horse"),
    ('db_password = "correct horse battery staple"', "horse"),
    ('password = "$ecret99!"', "ecret99"),
    ("DB_PASSWORD=$ecret99", "ecret99"),
    ('password: "@dmin123!"', "dmin123"),
    ("dbpass=swordfish", "swordfish"),
    ("pass: hunter22", "hunter22"),
    ("pass=hunter22", "hunter22"),
    ("pass = 'hunter22'", "hunter22"),
    ("Server=db;Uid=bob;Pass=hunter22;", "hunter22"),
    ('password="""hunter22"""', "hunter22"),
    ("{\\\"code\\\": \\\"password='''hunter22'''\\\"}", "hunter22"),
    ('db.setPassword("swordfish");', "swordfish"),
    ("user.set_password('swordfish')", "swordfish"),
    ('<property name="password" value="hunter22"/>', "hunter22"),
    (f"the secret ab~8Q~{_some(34)} is new", "8Q~"),
    (f".b.8Q~{_some(12)}.{_some(10)}~{_some(9)}", "8Q~"),
    (f"eyJ{_some(40)}..{_some(16)}.{_some(60)}.{_some(22)}", _some(60)),
    (f"xox{'d-'}{_some(12)}%2B{_some(30)}%2F{_some(41)}%3D", _some(41)),
]


@pytest.mark.parametrize(("text", "secret"), LEAKS)
def test_what_a_name_or_a_place_gives_away(text: str, secret: str) -> None:
    """Values behind telling names, in URLs, headers and command lines do not survive."""
    found = redact(text)
    assert secret not in found.text
    assert found.total >= 1


INNOCENT = [
    "WiFi.begin(ssid, password);",
    "tuples of psk_modes",
    "password=${DB_PASSWORD}",
    "password: str",
    "token: Optional[str] = None",
    "max_tokens: 4096",
    "api_key=os.environ['OPENAI_API_KEY']",
    "connect(password=password, token=settings.token)",
    "token = get_token()",
    '"token": "next_page"',
    "primary_key: user_id",
    'password: "Password is required"',
    "const password = req.body.password;",
    "if (token === nextToken1) {",
    "    password = forms.CharField(max_length=20)",
    "token_type: bearer",
    '"key": "value"',
    "password:\n  foo",
    "passed: 12, failed: 3",
    "the secret is out",
    "git commit -m 'token: fix refresh'",
    "PWD=/home/me/project",
    "export OPENAI_API_KEY=your-key-here",
    "Authorization: Bearer $TOKEN",
    "curl -u $USER:$PASS http://x",
    "postgres://user:password@localhost/db",
    "see http://localhost:8080/@me and me@example.org",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "uuid 123e4567-e89b-12d3-a456-426614174000",
    "shared/anamnesis/transcripts/test_a_very_long_module_name.py",
    "disk-usage task-list risk-averse sk-short",
    "password=[REDACTED:password]",
    "cache_key = 'a1b2c3d4e5f6a7b8c9d0e1f2'",
    "self.db_password = db_password",
    "self.password = resolved_password",
    "    self.allow_credentials = allow_credentials",
    "credentials: 'include'",
    "credentials: 'same-origin'",
    "private_key: PKCS7PrivateKeyTypes",
    'NO_KEY = "input_weight_equalization_recommended"',
    "PASS: 12abcd34",
    "pass: test_one",
    "bypass=true1x",
    "getpass.getpass = _getpass",
    "first pass: parse 1st file",
    "MembershipApplicationForm.fields.validate_membership_application_form()",
    "$password = $_POST['password'];",
    "password = $password",
    "password: '@password'",
    "ENV DB_PASSWORD ${DB_PASSWORD}",
    "how to set password correctly",
    "machine learning login page password reset",
    "setPassword(password)",
    'check_password("swordfish")',
    '"auth": "required"',
    '"author": "Ym9iOmh1bnRlcjI="',
    'WRONG_PASSWORD = "The password is wrong"',
    "docker login -u bob -p $PASS",
    "http://example.org\\nmail:bob@example.org",
    "eyJhbGciOiJIUzI1NiJ9... is cut",
    "https://[REDACTED:url-password]@github.com/a/b",
]


@pytest.mark.parametrize("text", INNOCENT)
def test_false_friends_stay(text: str) -> None:
    """Placeholders, references, code, types, hashes and ids are no secrets."""
    assert redact(text).text == text


PEM_BODY = "\n".join(_some(64, ALNUM + "/+", seed) for seed in range(4)) + "\nQUJD=="
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{PEM_BODY}\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        PEM,
        PEM.replace("\n", "\\n"),
        PEM.replace("\n", "\\\\n"),
        PEM.rpartition("\n")[0],
        PEM[:200],
        PEM.replace("\n", "\\n")[:200],
        PEM.partition("\n")[2],
        PEM.replace("\n", "\\n").partition("\\n")[2],
        PEM.replace("\n", "\r\n"),
        "\n".join(f"{n:>6}→{line}" for n, line in enumerate(PEM.split("\n"), 1)),
        PEM.replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1),
    ],
    ids=[
        "whole",
        "escaped",
        "twice-escaped",
        "no-end",
        "cut",
        "cut-escaped",
        "no-begin",
        "no-begin-esc",
        "crlf",
        "numbered",
        "enc",
    ],
)
def test_private_keys_go_whole_or_cut(text: str) -> None:
    """A PEM block goes with its body, whole or cut at either end; what stands around it stays."""
    out = redact(f"before it\n{text}\nand after that").text
    assert not any(line[:12] in out for line in PEM_BODY.split("\n")[:2])
    assert out.startswith("before it\n")
    assert out.endswith("\nand after that")


def test_public_parts_of_pem_stay() -> None:
    """Certificates and public keys are no secrets."""
    text = PEM.replace("RSA PRIVATE KEY", "CERTIFICATE")
    assert redact(text).text == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a <private>x</private> b", "a  b"),
        ("a<PRIVATE>x</Private>b", "a b"),
        ("a <private>x <private>y</private> z</private>b", "a b"),
        ("a\n  <private>never closed", "a\n  "),
        ("a <private>mentioned", "a <private>mentioned"),
        (
            "Words in `<private>` go,\nthose behind `</private>` stay",
            "Words in `<private>` go,\nthose behind `</private>` stay",
        ),
        ("A <<private>> B\nC </private>", "A <<private>> B\nC </private>"),
        ("the <private> tag\n<private>x</private>b", "the <private> tag\nb"),
        ("a ` b <private>x`y</private> c", "a ` b  c"),
        ("`a`<private>`x`</private>b", "`a` b"),
        ("a </private> b", "a </private> b"),
        ('a <private reason="x">y</private>', "a "),
        ("<priv<private>x</private>ate>y</private>", "<priv ate>y</private>"),
    ],
)
def test_private_blocks_are_dropped_whole(text: str, left: str) -> None:
    """Nothing of a private block stays, not even that there was one; unclosed at a line's beginning it reaches to
    the end. Talk about the tags is no block."""
    assert redact(text).text == left


def test_random_runs_go_only_on_request() -> None:
    """A random run of no known kind stays by default and goes with `entropy`; hashes and names stay in both."""
    secret = "q7Zp2Lw9Xc4Vb6Nm1Kj8Hg5Fd3Sa0Po"
    text = f"{secret} 3f786850e387550fdab836ed7e6dc881de23001b SomeVeryLongCamelCaseIdentifier"
    assert redact(text).text == text
    assert redact(text, entropy=True).text == text.replace(secret, "[REDACTED:high-entropy]")


_pieces = st.lists(
    st.one_of(
        st.sampled_from([*KEYS.values(), *(text for text, _ in LEAKS), *INNOCENT, PEM, "<private>", "</private>"]),
        st.sampled_from(
            ["[REDACTED:jwt]", "password", "=", ":", '"', "'", "\\", "\n", " ", "://", "@", "Bearer ", "-----"]
        ),
        st.text(max_size=12),
    ),
    max_size=12,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(_pieces, st.booleans())
def test_redacting_twice_changes_nothing(text: str, entropy: bool) -> None:
    """The result of redaction holds nothing that redaction would find."""
    once = redact(text, entropy)
    twice = redact(once.text, entropy)
    assert twice.text == once.text
    assert not twice.counts


@settings(max_examples=200, deadline=None)
@given(_pieces, st.booleans())
def test_lines_keep_their_numbers_where_that_is_wanted(text: str, entropy: bool) -> None:
    """As many newlines stay as there were, and nothing that redaction would find is left."""
    kept = redact(text, entropy, keep_lines=True)
    assert kept.text.count("\n") == text.count("\n")
    again = redact(kept.text, entropy, keep_lines=True)
    assert (again.text, again.total) == (kept.text, 0)
    assert redact(kept.text, entropy).text == kept.text


def test_what_follows_a_key_stays_on_its_line() -> None:
    """A private key and a private block of several lines leave their lines behind."""
    found = redact(f"one\n{PEM}\ntwo <private>a\nb\nc</private>three\nend", keep_lines=True)
    lines = f"one\n{PEM}\ntwo <private>a\nb\nc</private>three\nend".split("\n")
    assert found.text.split("\n")[lines.index("end")] == "end"
    assert "BEGIN" not in found.text


@settings(max_examples=100, deadline=None)
@given(_pieces)
def test_counts_say_what_was_done(text: str) -> None:
    """Nothing counted means nothing changed, and the other way round."""
    found = redact(text)
    assert (found.total == 0) == (found.text == text)


HOSTILE = """
    password= password=' password="x token: token=a _pass_ secret: eyJ eyJ- eyJa. sk- ://a: ftp://a: :// Authorization:
    bearer: cookie:a= curl curl_-u mysql- ----- <private> </private> <private a1B- AKIA &sig= "kty" xoxb- SG. dp.audit.
    M.M. 1/1: pat. ghp_ ghp_a. key- a0- 0:AA hooks.slack.com/ redis-cli sshpass&quot; ?sig= `<private> <<private>> `
    a:a@tcp( ://a\\a: abc8Q~ xoxd-%2B eyJ.. "auth": _auth= _pat= setpassword(" password=\"\"\" $a. PKCS7Private
""".split()  # noqa: SIM905 -- one word a line is no easier to read
HOSTILE += [
    "bearer ",
    "curl ",
    "curl -u ",
    "mysql -",
    "docker login ",
    "ENV password ",
    "machine a.a login a password ",
    "key\n value: ",
    "password= ",
    "password=" + " " * 99,
    "x" * 64,
    "\n",
    "\n<private>",
]
HOSTILE += [f"-----{end} PRIVATE KEY-----{tail}" for end in ("BEGIN", "END") for tail in ("", "\n", "\\n", "A" * 40)]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    """Four times the text takes at most about four times as long, whatever is repeated."""
    assert_linear(redact, lambda size: piece * (size // len(piece)), 25_000)


def test_lone_surrogates_do_no_harm() -> None:
    """Text that no encoder takes is redacted like any other."""
    assert redact("\ud800 password: hunter2 \udfff").text == "\ud800 password: [REDACTED:password] \udfff"
