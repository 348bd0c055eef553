"""Secrets to plant: made up in the formats that independent scanners publish rules for, and false friends.

Each line of `BY_FORMAT` is a token that its issuer gives a recognisable shape; each of `BY_NAME` is known by what
stands before it alone. The kinds and shapes follow the published rules of scanners (gitleaks first, detect-secrets
and Kingfisher beside it); every value is drawn from a seed and never opened anything.
"""

import random
import string
from collections.abc import Iterator
from typing import NamedTuple

LOWER = string.ascii_lowercase + string.digits
ALNUM = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
URL = ALNUM + "-_"
BASE64 = ALNUM + "+/"
BECH = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"


class Secret(NamedTuple):
    rule: str
    value: str


class Planted(NamedTuple):
    """A text with a secret in it, as somebody would have written it."""

    rule: str
    value: str
    text: str


_PIECES = {"a": LOWER, "A": UPPER, "w": ALNUM, "h": HEX, "u": URL, "b": BASE64, "d": string.digits, "q": BECH}


def drawn(shape: str, dice: random.Random) -> str:
    """A value of a shape: `{w36}` stands for 36 letters and digits, what is outside braces for itself."""
    out = []
    rest = shape
    while rest:
        literal, _, rest = rest.partition("{")
        out.append(literal)
        if rest:
            field, _, rest = rest.partition("}")
            alphabet = _PIECES[field[0]]
            out.append("".join(dice.choice(alphabet) for _ in range(int(field[1:]))))
    return "".join(out)


BY_FORMAT = {
    "1password-service-account-token": "ops_eyJ{b250}",
    "1password-secret-key": "A3-{A6}-{A11}-{A5}-{A5}-{A5}",
    "adobe-client-secret": "p8e-{a32}",
    "age-secret-key": "AGE-SECRET-KEY-1{q58}",
    "airtable-pat": "pat{w14}.{h64}",
    "alibaba-access-key-id": "LTAI{a20}",
    "anthropic-admin-api-key": "sk-ant-admin01-{u93}AA",
    "anthropic-api-key": "sk-ant-api03-{u93}AA",
    "artifactory-api-key": "AKCp{w69}",
    "artifactory-reference-token": "cmVmd{w59}",
    "atlassian-api-token": "ATATT3{u186}",
    "aws-access-token": "AKIA{q16}",
    "aws-amazon-bedrock-api-key": "ABSK{b109}",
    "azure-ad-client-secret": "{w3}8Q~{w34}",
    "bitbucket-app-password": "ATBB{w32}",
    "clickhouse-cloud-api-secret-key": "4b1d{w38}",
    "clojars-api-token": "CLOJARS_{a60}",
    "cloudflare-origin-ca-key": "v1.0-{h24}-{h146}",
    "databricks-api-token": "dapi{h32}",
    "defined-networking-api-token": "dnkey-{a26}-{a52}",
    "digitalocean-access-token": "doo_v1_{h64}",
    "digitalocean-pat": "dop_v1_{h64}",
    "digitalocean-refresh-token": "dor_v1_{h64}",
    "discord-bot-token": "M{w25}.{w6}.{u38}",
    "doppler-api-token": "dp.pt.{a43}",
    "duffel-api-token": "duffel_live_{u43}",
    "dynatrace-api-token": "dt0c01.{A24}.{A64}",
    "easypost-api-token": "EZAK{a54}",
    "easypost-test-api-token": "EZTK{a54}",
    "facebook-access-token": "EAAM{w110}",
    "flutterwave-secret-key": "FLWSECK_TEST-{h32}-X",
    "flyio-access-token": "fo1_{u43}",
    "frameio-api-token": "fio-u-{u64}",
    "gcp-api-key": "AIza{u35}",
    "github-app-token": "ghs_{w36}",
    "github-fine-grained-pat": "github_pat_{w22}_{w59}",
    "github-oauth": "gho_{w36}",
    "github-pat": "ghp_{w36}",
    "github-refresh-token": "ghr_{w36}",
    "gitlab-cicd-job-token": "glcbt-1a_{u20}",
    "gitlab-deploy-token": "gldt-{u20}",
    "gitlab-feature-flag-client-token": "glffct-{u20}",
    "gitlab-feed-token": "glft-{u20}",
    "gitlab-incoming-mail-token": "glimt-{u25}",
    "gitlab-kubernetes-agent-token": "glagent-{u50}",
    "gitlab-oauth-app-secret": "gloas-{u64}",
    "gitlab-pat": "glpat-{u20}",
    "gitlab-ptt": "glptt-{h40}",
    "gitlab-rrt": "GR1348941{u20}",
    "gitlab-runner-authentication-token": "glrt-{u20}",
    "gitlab-scim-token": "glsoat-{u20}",
    "gocardless-api-token": "live_{u40}",
    "google-oauth-client-secret": "GOCSPX-{u28}",
    "grafana-cloud-api-token": "glc_eyJ{b60}",
    "grafana-service-account-token": "glsa_{w32}_{h8}",
    "harness-api-key": "pat.{u22}.{h24}.{w20}",
    "hashicorp-tf-api-token": "{w14}.atlasv1.{u65}",
    "heroku-api-key-v2": "HRKU-AA{u58}",
    "huggingface-access-token": "hf_{w34}",
    "huggingface-organization-api-token": "api_org_{w34}",
    "infracost-api-token": "ico-{w32}",
    "intra42-client-secret": "s-s4t2ud-{h64}",
    "jwt": "eyJ{w34}.eyJ{w80}.{u43}",
    "kubernetes-bootstrap-token": "token: {a6}.{a16}",
    "linear-api-key": "lin_api_{w40}",
    "looker-in-context": "looker_client_secret={a24}",
    "mailchimp-api-key": "{h32}-us20",
    "mailgun-private-api-token": "key-{h32}",
    "mapbox-api-token": "sk.eyJ{u60}.{u22}",
    "maxmind-license-key": "{w6}_{w29}_mmk",
    "microsoft-teams-webhook": (
        "https://example.webhook.office.com/webhookb2/{h8}-{h4}-{h4}-{h4}-{h12}@{h8}-{h4}-{h4}-{h4}-{h12}"
        "/IncomingWebhook/{h32}/{h8}-{h4}-{h4}-{h4}-{h12}"
    ),
    "new-relic-insert-key": "NRII-{u32}",
    "new-relic-user-api-key": "NRAK-{A27}",
    "notion-api-token": "ntn_{d11}{w35}",
    "npm-access-token": "npm_{w36}",
    "nuget-key": "oy2{a43}",
    "octopus-deploy-api-key": "API-{A26}",
    "openai-api-key": "sk-proj-{u74}T3BlbkFJ{u74}",
    "openai-legacy-key": "sk-{w20}T3BlbkFJ{w20}",
    "openshift-user-token": "sha256~{u43}",
    "perplexity-api-key": "pplx-{w48}",
    "planetscale-api-token": "pscale_tkn_{u43}",
    "planetscale-oauth-token": "pscale_oauth_{u43}",
    "planetscale-password": "pscale_pw_{u43}",
    "postman-api-token": "PMAK-{h24}-{h34}",
    "prefect-api-token": "pnu_{a36}",
    "pulumi-api-token": "pul-{h40}",
    "pypi-upload-token": "pypi-AgEIcHlwaS5vcmc{u70}",
    "readme-api-token": "rdme_{a70}",
    "rubygems-api-token": "rubygems_{h48}",
    "scalingo-api-token": "tk-us-{u48}",
    "sendgrid-api-token": "SG.{u22}.{u43}",
    "sendinblue-api-token": "xkeysib-{h64}-{a16}",
    "sentry-org-token": "sntrys_eyJ{b80}_{b43}",
    "sentry-user-token": "sntryu_{h64}",
    "settlemint-application-access-token": "sm_aat_{w16}",
    "shippo-api-token": "shippo_live_{h40}",
    "shopify-access-token": "shpat_{h32}",
    "shopify-custom-access-token": "shpca_{h32}",
    "shopify-private-app-access-token": "shppa_{h32}",
    "shopify-shared-secret": "shpss_{h32}",
    "slack-app-token": "xapp-1-A{A10}-{d13}-{h64}",
    "slack-bot-token": "xoxb-{d12}-{d12}-{w24}",
    "slack-config-refresh-token": "xoxe-1-{A147}",
    "slack-legacy-token": "xoxs-{d11}-{d11}-{d11}-{h10}",
    "slack-user-token": "xoxp-{d12}-{d12}-{d12}-{h32}",
    "slack-webhook-url": "https://hooks.slack.com/services/T{A8}/B{A10}/{w24}",
    "sourcegraph-access-token": "sgp_{h16}_{h40}",
    "square-access-token": "sq0atp-{u22}",
    "stripe-access-token": "sk_live_{w24}",
    "stripe-restricted": "rk_live_{w99}",
    "sumologic-in-context": "SUMOLOGIC_ACCESS_KEY={a64}",
    "supabase-service-token": "sbp_{h40}",
    "tailscale-auth-key": "tskey-auth-{w12}CNTRL-{w32}",
    "telegram-bot-api-token": "{d10}:AA{u33}",
    "trello-atta-token": "ATTA{h64}",
    "twilio-api-key": "SK{h32}",
    "typeform-api-token": "tfp_{u59}",
    "vault-batch-token": "hvb.{u140}",
    "vault-service-token": "hvs.{u95}",
    "yandex-api-key": "AQVN{u36}",
    "zapier-webhook": "https://hooks.zapier.com/hooks/catch/{d7}/{a7}/",
    "discord-webhook": "https://discord.com/api/webhooks/{d18}/{u68}",
}

NAMED = {
    "adafruit": "{a32}",
    "algolia": "{a32}",
    "alibaba_secret": "{a30}",
    "asana_client_secret": "{a32}",
    "auth0_client_secret": "{u64}",
    "bitbucket_client_secret": "{u64}",
    "bittrex_secret_key": "{a32}",
    "cisco_meraki_api_key": "{h40}",
    "cloudflare_api_key": "{u40}",
    "codecov_token": "{a32}",
    "cohere_api_key": "{w40}",
    "coinbase_access_token": "{u64}",
    "confluent_secret_key": "{a64}",
    "contentful_token": "{u43}",
    "datadog_api_key": "{a40}",
    "deepseek_api_key": "sk-{h32}",
    "drone_token": "{a32}",
    "dropbox_secret": "{a15}",
    "etsy_access_token": "{a24}",
    "fastly_api_token": "{u32}",
    "finicity_client_secret": "{a20}",
    "flickr_access_token": "{a32}",
    "freshbooks_access_token": "{a64}",
    "gitter_access_token": "{u40}",
    "heroku_api_key": "{h8}-{h4}-{h4}-{h4}-{h12}",
    "hubspot_api_key": "{h8}-{h4}-{h4}-{h4}-{h12}",
    "intercom_api_token": "{u60}",
    "jfrog_api_key": "{a73}",
    "kraken_secret": "{b80}",
    "kucoin_secret_key": "{h8}-{h4}-{h4}-{h4}-{h12}",
    "launchdarkly_access_token": "{u40}",
    "linkedin_client_secret": "{a16}",
    "lob_api_key": "live_{h35}",
    "mattermost_access_token": "{a26}",
    "messagebird_api_token": "{a25}",
    "mistral_api_key": "{w32}",
    "netlify_access_token": "{u43}",
    "nytimes_access_token": "{u32}",
    "okta_access_token": "00{u40}",
    "plaid_secret_key": "{a30}",
    "rapidapi_access_token": "{u50}",
    "sendbird_access_token": "{h40}",
    "snyk_api_token": "{h8}-{h4}-{h4}-{h4}-{h12}",
    "sonar_token": "{h40}",
    "squarespace_access_token": "{h8}-{h4}-{h4}-{h4}-{h12}",
    "travisci_access_token": "{a22}",
    "trello_access_token": "{w32}",
    "twitch_api_token": "{a30}",
    "twitter_api_secret": "{a50}",
    "yandex_aws_access_token": "YC{u38}",
    "zendesk_secret_key": "{a40}",
    "ibm_cloud_api_key": "{u44}",
    "softlayer_api_key": "{a64}",
    "cloudant_password": "{h64}",
    "box_client_secret": "{w32}",
    "db2_password": "{w12}",
    "keycloak_secret": "{w32}",
    "redis_password": "{w20}",
    "smtp_password": "{w14}",
    "jwt_secret": "{w40}",
    "session_secret": "{w40}",
    "signing_key": "{h64}",
    "encryption_key": "{b43}",
    "webhook_secret": "{w32}",
    "consumer_secret": "{w44}",
    "private_token": "{u20}",
    "refresh_token": "{u48}",
    "bearer_token": "{u40}",
    "access_key": "{w32}",
    "admin_password": "{w12}",
}
"""Known by their names alone: there is no shape to go by."""

ASSIGNED = (
    "{NAME}={value}",
    'export {NAME}="{value}"',
    '{name} = "{value}"',
    "{name}: {value}",
    '"{name}": "{value}",',
    "  {camel}: '{value}',",
    'const {camel} = "{value}";',
    "{NAME} := `{value}`",
    "ENV {NAME}={value}",
    "-D{name}={value}",
)
STANDING = (
    "{value}",
    "Use {value} until Friday.",
    'client = Client("{value}")',
    "curl -H 'Authorization: Bearer {value}' https://api.example.org/v1/me",
    "    - token: {value}",
    "// {value}",
    "| production | {value} |",
    '{{"headers": {{"X-Api-Key": "{value}"}}}}',
)


def planted(seed: int = 1, each: int = 3) -> Iterator[Planted]:
    """Every format and every name, `each` times, each time written in another way."""
    dice = random.Random(seed)
    for rule, shape in BY_FORMAT.items():
        for way in dice.sample(STANDING, each):
            value = drawn(shape, dice)
            yield Planted(rule, value, way.format(value=value))
    for name, shape in NAMED.items():
        for way in dice.sample(ASSIGNED, each):
            value = drawn(shape, dice)
            first, *others = name.split("_")
            camel = first + "".join(one.capitalize() for one in others)
            told = name if any(word in name for word in _TELLING) else f"{name}_api_key"
            camel = camel if told == name else f"{camel}ApiKey"
            yield Planted(name, value, way.format(NAME=told.upper(), name=told, camel=camel, value=value))


_TELLING = ("key", "token", "secret", "password")

FRIENDS = (
    "commit {h40}",
    "index {h7}..{h7} 100644",
    "sha256:{h64}",
    '"integrity": "sha512-{b86}==",',
    "--hash=sha256:{h64} \\",
    "{h8}-{h4}-4{h3}-a{h3}-{h12}",
    "image: registry.example.org/app@sha256:{h64}",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{b43} me@example.org",
    'src="data:image/png;base64,iVBORw0KGgo{b120}"',
    'ETag: W/"{h32}"',
    "api_key = os.environ['API_KEY']",
    "token = tokenizer.next_token(stream, position)",
    "password: ${{DB_PASSWORD}}",
    "API_KEY=<your key here>",
    "SECRET_KEY=changeme",
    "def test_the_token_is_refreshed_when_it_expires_{a8}(self) -> None:",
    "https://example.org/docs/{a12}/{a20}?page=2",
    "max_tokens = 4096",
    "keyboard_layout = 'de-latin1-nodeadkeys'",
    "monkey: {w4}",
    "PRIMARY KEY (user_id, session_id)",
    "from anamnesis.contracts.keys import Identity, KeyCheck, Scope",
    "uuid.UUID('{h8}-{h4}-4{h3}-8{h3}-{h12}')",
    'Traceback: File "/usr/lib/python3.11/site-packages/{a8}/{a12}.py", line 88',
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "The password field accepts 12 to 64 characters.",
    "author = Jane Q. Public <jane.public@example.org>",
    "pass the token to the next function",
    "token_count: {d6}",
    "serial {A4}-{A4}-{A4}-{A4}",
    "AKIAIOSFODNN7 is how such ids begin",
    "ghp_short and sk-short are no keys",
)


def friends(seed: int = 2, each: int = 10) -> Iterator[str]:
    """What looks like a secret and is none."""
    dice = random.Random(seed)
    for line in FRIENDS:
        for _ in range(each):
            yield drawn(line.replace("{{", "\0").replace("}}", "\1"), dice).replace("\0", "{").replace("\1", "}")
