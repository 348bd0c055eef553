"""Keys and tokens that are known by their shape, provider by provider.

Every format holds a run of at least `MIN_RUN` letters, digits, `_` and `-`. Such runs are looked
for first (a translated copy of the text, one fast substring search), and the formats are tried
around them only, so text without long runs costs next to nothing. A new format is a line in
`FORMATS`; its prefix is literal, its quantifiers cannot backtrack over more than a few bytes.
"""

import re
from collections.abc import Iterator

from anamnesis.redact.spans import BOUNDARY, Span

MIN_RUN = 20
REACH = 24
"""How far before a run a format may begin (`dp.audit.`, `xoxe.xoxb-`, `1234567890:`, `xoxd-...%2B`)."""

_W = r"[A-Za-z0-9_-]"
_A = r"[A-Za-z0-9]"
_H = r"[0-9a-f]"

FORMATS: tuple[tuple[str, str], ...] = (
    ("anamnesis-key", rf"anm_{_W}{{20,}}"),
    ("anthropic-key", rf"sk-ant-{_W}{{16,}}"),
    ("openrouter-key", rf"sk-or-{_W}{{20,}}"),
    ("langfuse-key", rf"sk-lf-{_W}{{20,}}"),
    ("openai-key", rf"sk-(?:proj|svcacct|admin|None|service)-{_W}{{16,}}|sk-(?=[A-Za-z_-]{{0,64}}[0-9]){_W}{{20,}}"),
    ("aws-access-key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("aws-bedrock-key", r"ABSK[A-Za-z0-9+/=]{60,}|bedrock-api-key-[A-Za-z0-9+/=]{20,}"),
    ("github-token", rf"gh[pousr]_{_A}[A-Za-z0-9_]{{29,}}(?:\.{_W}{{10,}})*|github_pat_[A-Za-z0-9_]{{22,}}"),
    ("gitlab-token", rf"gl(?:pat|dt|rt|rtr|ptt|oas|cbt|ft|ffct|imt|agent|soat|wt)-{_W}{{16,}}(?:\.{_W}{{2,}})*"),
    ("gitlab-token", rf"GR1348941{_W}{{20,}}"),
    ("bitbucket-token", r"ATBB[A-Za-z0-9_=-]{28,}"),
    ("atlassian-token", r"AT(?:ATT|CTT)3[A-Za-z0-9_=.-]{40,}"),
    ("slack-token", r"xoxd-(?=[A-Za-z%-]{0,40}[0-9])[A-Za-z0-9_%+/=-]{10,}"),
    ("slack-token", rf"xox[abceoprs](?:\.xox[a-z])?-(?=[A-Za-z-]{{0,40}}[0-9]){_W}{{10,}}|xapp-[0-9]-{_W}{{16,}}"),
    ("stripe-key", rf"[srp]k_(?:live|test|prod)_{_A}{{10,}}|whsec_[A-Za-z0-9+/=]{{24,}}"),
    ("google-key", rf"AIza{_W}{{35}}|AQ\.A{_W}{{30,}}"),
    ("google-oauth", rf"ya29\.{_W}{{20,}}(?:\.{_W}+)*|GOCSPX-{_W}{{20,}}|1//0{_W}{{20,}}"),
    ("azure-key", rf"(?<!\\){_A}{{44,56}}JQQJ9{_A}{{16,}}|(?<!\\){_A}{{76}}AZDO{_A}{{4}}"),
    ("huggingface-token", rf"hf_{_A}{{30,}}|api_org_{_A}{{30,}}"),
    ("npm-token", rf"npm_{_A}{{30,}}"),
    ("pypi-token", rf"pypi-Ag{_W}{{40,}}"),
    ("rubygems-key", rf"rubygems_{_H}{{40,}}"),
    ("crates-token", rf"cio{_A}{{32}}(?![A-Za-z0-9])"),
    ("nuget-key", r"oy2[a-z0-9]{43}(?![A-Za-z0-9])"),
    ("docker-token", rf"dckr_(?:pat|oat)_{_W}{{20,}}"),
    ("sendgrid-key", rf"SG\.{_W}{{16,32}}\.{_W}{{20,}}"),
    ("mailgun-key", rf"key-{_H}{{32}}(?![A-Za-z0-9])"),
    ("mailchimp-key", rf"{_H}{{32}}-us[0-9]{{1,2}}(?![A-Za-z0-9])"),
    ("brevo-key", rf"xkeysib-{_H}{{40,}}{_W}*"),
    ("twilio-key", rf"SK{_H}{{32}}(?![A-Za-z0-9])"),
    ("telegram-token", rf"[0-9]{{8,10}}:AA{_W}{{32,}}"),
    (
        "discord-token",
        rf"[MNO]{_W}{{23,27}}\.{_W}{{6}}\.(?=[A-Za-z_-]{{0,64}}[0-9])(?=[a-z0-9_-]{{0,64}}[A-Z]){_W}{{27,}}",
    ),
    ("databricks-token", rf"(?:dapi|dose|dkea){_H}{{32}}(?:-[0-9]{{1,2}})?(?![A-Za-z0-9])"),
    ("digitalocean-token", rf"do[opr]_v1_{_H}{{40,}}"),
    ("cloudflare-token", rf"cf(?:ut|at|k)_{_W}{{30,}}|v1\.0-{_H}{{24}}-{_H}{{100,}}"),
    ("heroku-key", rf"HRKU-{_W}{{30,}}"),
    ("fly-token", r"(?:fm[12][a-z]?|fo1)_[A-Za-z0-9+/=_-]{30,}"),
    ("vercel-token", rf"vc[piark]_{_A}{{30,}}"),
    ("netlify-token", rf"nf[pcoub]_{_A}{{30,}}"),
    ("supabase-key", rf"sbp_{_H}{{40}}|sb_secret_{_W}{{20,}}"),
    ("planetscale-token", rf"pscale_(?:tkn|pw|oauth)_{_W}{{20,}}"),
    ("tailscale-key", rf"tskey-[a-z]{{3,10}}-{_W}{{16,}}"),
    ("vault-token", rf"hv[sbr]\.{_W}{{20,}}"),
    ("terraform-token", rf"{_A}{{14}}\.atlasv1\.{_W}{{40,}}"),
    ("doppler-token", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{30,}"),
    ("onepassword-token", r"ops_eyJ[A-Za-z0-9+/=_-]{40,}"),
    ("age-key", r"AGE-SECRET-KEY-1[0-9A-Z]{50,}"),
    ("grafana-token", rf"glsa_{_A}{{32}}_[0-9A-Fa-f]{{8}}|glc_eyJ[A-Za-z0-9+/=_-]{{30,}}"),
    ("newrelic-key", rf"NRAK-[A-Z0-9]{{24,}}|NRII-{_W}{{24,}}"),
    ("sentry-token", rf"sntrys_eyJ[A-Za-z0-9+/=_-]{{30,}}|sntryu_{_H}{{40,}}"),
    ("posthog-key", rf"ph[xs]_{_A}{{30,}}"),
    ("linear-key", rf"lin_(?:api|oauth)_{_A}{{30,}}"),
    ("notion-token", rf"ntn_{_A}{{40,}}|secret_{_A}{{43}}(?![A-Za-z0-9])"),
    ("figma-token", rf"fig[dor]_{_W}{{30,}}"),
    ("airtable-token", rf"pat{_A}{{14}}\.{_H}{{60,}}"),
    ("asana-token", rf"[0-9]/[0-9]{{12,}}(?:/[0-9]{{12,}})?:{_H}{{32}}"),
    ("dropbox-token", rf"sl\.(?:u\.)?{_W}{{60,}}"),
    ("postman-key", rf"PMAK-{_H}{{24}}-{_H}{{30,}}"),
    ("shopify-token", r"shp(?:at|ca|pa|ss|ua)_[0-9A-Fa-f]{32}"),
    ("square-token", rf"sq0[a-z]{{3}}-{_W}{{20,}}|EAAA{_W}{{56,}}"),
    ("facebook-token", r"EAA[A-Z][A-Za-z0-9]{60,}"),
    ("paypal-token", rf"access_token\$production\${_A}{{16}}\${_H}{{32}}"),
    ("groq-key", rf"gsk_{_A}{{40,}}"),
    ("xai-key", rf"xai-{_A}{{40,}}"),
    ("perplexity-key", rf"pplx-{_A}{{32,}}"),
    ("replicate-token", rf"r8_{_A}{{30,}}"),
    ("nvidia-key", rf"nvapi-{_W}{{40,}}"),
    ("fireworks-key", rf"fw_{_A}{{22,}}"),
    ("tavily-key", rf"tvly-{_W}{{20,}}"),
    ("firecrawl-key", rf"fc-{_H}{{32}}(?![A-Za-z0-9])"),
    ("voyage-key", rf"(?:pa|al)-{_W}{{43}}(?![A-Za-z0-9_-])"),
    ("pinecone-key", rf"pcsk_{_W}{{40,}}"),
    ("langsmith-key", rf"ls(?:v2_(?:pt|sk)|__)_?{_H}{{32}}(?:_{_H}{{8,}})?"),
    ("wandb-key", rf"wandb_v1_{_W}{{30,}}"),
    ("adobe-key", r"p8e-[a-z0-9]{32}(?![A-Za-z0-9])"),
    ("alibaba-key", rf"LTAI{_A}{{16,24}}(?![A-Za-z0-9])"),
    ("artifactory-key", rf"AKCp{_A}{{60,}}|cmVmd{_A}{{59}}(?![A-Za-z0-9])"),
    ("clickhouse-key", rf"4b1d{_A}{{38}}(?![A-Za-z0-9])"),
    ("clojars-token", r"CLOJARS_[a-z0-9]{60}"),
    ("defined-key", rf"dnkey-{_W}{{40,}}"),
    ("duffel-token", rf"duffel_(?:live|test)_{_W}{{40,}}"),
    ("dynatrace-token", r"dt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{60,}"),
    ("easypost-key", rf"EZ[AT]K{_A}{{54}}"),
    ("flutterwave-key", rf"FLWSECK(?:_TEST)?-{_H}{{32}}-X"),
    ("frameio-token", rf"fio-u-{_W}{{60,}}"),
    ("gocardless-token", rf"live_(?=[A-Za-z_-]{{0,40}}[0-9])(?=[a-z0-9_-]{{0,40}}[A-Z]){_W}{{40}}(?!{_W})"),
    ("harness-key", rf"[ps]at\.{_W}{{22}}\.{_H}{{24}}\.{_A}{{20}}"),
    ("infracost-token", rf"ico-{_A}{{32}}(?![A-Za-z0-9])"),
    ("intra42-secret", rf"s-s4t2(?:ud|af)-{_H}{{64}}"),
    ("maxmind-key", rf"{_A}{{6}}_{_A}{{29}}_mmk(?!{_W})"),
    ("octopus-key", r"API-[A-Z0-9]{26}(?![A-Za-z0-9])"),
    ("openshift-token", rf"sha256~{_W}{{43}}(?!{_W})"),
    ("prefect-token", r"pn[ub]_[a-z0-9]{36}(?![A-Za-z0-9])"),
    ("pulumi-token", rf"pul-{_H}{{40}}(?![A-Za-z0-9])"),
    ("readme-token", r"rdme_[a-z0-9]{70}"),
    ("scalingo-token", rf"tk-us-{_W}{{48}}"),
    ("settlemint-token", rf"sm_[aps]at_{_A}{{16}}(?![A-Za-z0-9])"),
    ("shippo-token", rf"shippo_(?:live|test)_{_H}{{40}}"),
    ("sourcegraph-token", rf"sgp_(?:{_H}{{16}}_|local_)?{_H}{{40}}"),
    ("trello-token", rf"ATTA{_H}{{64}}"),
    ("typeform-token", rf"tfp_{_W}{{40,}}"),
    ("yandex-key", rf"AQVN{_W}{{35,38}}(?!{_W})"),
    ("onepassword-key", r"A3-[A-Z0-9]{6}-[A-Z0-9]{11}-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}"),
    # The key of a JWE may be empty: two dots behind the header.
    ("jwt", rf"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))eyJ{_W}{{8,}}+\.(?:\.{_W}+\.)?{_W}+(?:\.{_W}+){{0,3}}"),
)

_ANY = re.compile(BOUNDARY + b"(?:" + "|".join(pattern for _, pattern in FORMATS).encode() + b")")
_EACH = tuple((kind, re.compile(f"(?:{pattern})".encode())) for kind, pattern in FORMATS)
_RUN = b"x" * MIN_RUN
_TO_RUN = bytes(ord("x") if (chr(c).isalnum() and c < 128) or chr(c) in "_-" else ord(" ") for c in range(256))
_WIDER = re.compile(rb"[A-Za-z0-9_.~+/=:$%-]*+")
_BASE64_JSON = re.compile(BOUNDARY + b"(?:ops|glc|sntrys)_eyJ[A-Za-z0-9+/=_-]{30,}")
"""Tokens whose base64 may hold a slash or a plus anywhere, so that no run need be near their beginning."""
_BASE64_KINDS = {b"ops": "onepassword-token", b"glc": "grafana-token", b"sntrys": "sentry-token"}
_ENTRA_SECRET = re.compile(BOUNDARY + rb"[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~])")
_AWS_SECRET = re.compile(
    rb"[^A-Za-z0-9/+=]{1,4}(?:[A-Za-z_ ]{0,40}[^A-Za-z0-9/+]{1,8})??([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])"
)


def runs(flat: bytes) -> Iterator[tuple[int, int]]:
    """The spans of all runs of at least `MIN_RUN` token characters, in order."""
    mapped = flat.translate(_TO_RUN)
    at = mapped.find(_RUN)
    while at >= 0:
        end = mapped.find(b" ", at + MIN_RUN)
        end = len(mapped) if end < 0 else end
        yield at, end
        at = mapped.find(_RUN, end)


def find_formats(flat: bytes) -> Iterator[Span]:
    """Every key of a known format. An AWS secret is found beside its access key."""
    done = 0
    for start, end in runs(flat):
        if end <= done:
            continue
        low = max(done, start - REACH)
        wide = _WIDER.match(flat, end)
        high = wide.end() if wide else end
        while (match := _ANY.search(flat, low, high)) is not None:
            # Named groups in one pattern would cost every failed position; naming the few hits costs nothing.
            kind = next((k for k, pattern in _EACH if pattern.match(flat, match.start(), high)), "key")
            yield Span(match.start(), match.end(), kind)
            low = match.end()
            if kind == "aws-access-key" and (secret := _AWS_SECRET.match(flat, low)) is not None:
                yield Span(secret.start(1), secret.end(1), "aws-secret-key")
        done = high
    at = flat.find(b"_eyJ")
    while at >= 0:
        for prefix, kind in _BASE64_KINDS.items():
            if at >= len(prefix) and (token := _BASE64_JSON.match(flat, at - len(prefix))) is not None:
                yield Span(token.start(), token.end(), kind)
        at = flat.find(b"_eyJ", at + 1)
    # Dots and tildes may leave this one without a run.
    at = flat.find(b"~", 5)
    while at >= 0:
        if flat[at - 1] == 81 and (secret := _ENTRA_SECRET.match(flat, at - 5)) is not None:
            yield Span(secret.start(), secret.end(), "azure-secret")
        at = flat.find(b"~", at + 1)
