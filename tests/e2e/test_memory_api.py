"""What memory promises at its paths, asked through the front door, over each store."""

import base64
import json
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from pymongo import MongoClient

from tests.e2e.conftest import SERVICE_KEY, Stack, running
from tests.mongo_peer.fixtures import DATABASE_PREFIX, URI_VARIABLE, mongo_peer, mongo_uri

__all__ = ["mongo_peer", "mongo_uri"]  # fixtures


@pytest.fixture(scope="module", params=["sqlite", "mongo"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The services over each store: the front door must not show which one lies behind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("stack")
        return
    uri, database = request.getfixturevalue("mongo_uri"), DATABASE_PREFIX + secrets.token_hex(6)
    if not os.environ.get(URI_VARIABLE):
        request.getfixturevalue("mongo_peer").proxy.text = True  # as Atlas Local has it
    extra = {"ANAMNESIS_MONGODB_URI": uri, "ANAMNESIS_MONGODB_DATABASE": database}
    with running(tmp_path_factory.mktemp("over-mongo"), "memory", "gateway", extra=extra) as over_mongo:
        yield over_mongo
    if not os.environ.get(URI_VARIABLE):
        request.getfixturevalue("mongo_peer").proxy.text = False
    with MongoClient[dict[str, object]](uri, timeoutMS=20_000) as client:
        client.drop_database(database)


@pytest.fixture
def api(place: Stack) -> Iterator[httpx.Client]:
    with place.client() as client:
        yield client


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    """A project of the test's own."""
    return f"api-{request.node.originalname}"


def _note(project: str, summary: str, **more: object) -> dict[str, object]:
    return {"instance": "laptop", "project": project, "summary": summary, **more}


def test_an_id_is_made_from_time_place_and_content(api: httpx.Client, project: str) -> None:
    """Without an id one is made; the event time is kept apart from the time of ingest."""
    body = _note(project, "The lamp was mended.", timestamp="2025-05-06T07:08:09+02:00", instance="Ada's Laptop")
    made = api.post("/api/episodes", json=body)
    assert made.status_code == 201
    episode = made.json()
    assert episode["episode_id"].startswith("ep_20250506_ada-s-laptop_api-test-an-id")
    assert episode["timestamp"] == "2025-05-06T05:08:09Z"
    assert episode["ingested_at"] > episode["timestamp"]
    assert api.get(f"/api/episodes/{episode['episode_id']}").json() == episode


def test_a_duplicate_is_409_and_names_what_stands_in_its_way(api: httpx.Client, project: str) -> None:
    """The same id is refused, and so is the same content under another id."""
    first = api.post("/api/episodes", json=_note(project, "Once.", episode_id="dup-1")).json()["episode_id"]
    for body in (_note(project, "Other.", episode_id="dup-1"), _note(project, "Once.", episode_id="dup-2")):
        refused = api.post("/api/episodes", json=body)
        assert refused.status_code == 409
        assert refused.json()["error"]["detail"]["episode_id"] == first
    assert api.post("/api/episodes", json=_note(project + "-b", "Once.", episode_id="dup-3")).status_code == 201


def test_a_batch_updates_what_has_grown(api: httpx.Client, project: str) -> None:
    """`on_conflict=update` replaces text under the same id, and the new words are found."""
    api.post("/api/episodes/batch", json={"episodes": [_note(project, "Short.", episode_id="grow")]})
    grown = {"episodes": [_note(project, "Short, then a zeppelin landed.", episode_id="grow")], "on_conflict": "update"}
    assert api.post("/api/episodes/batch", json=grown).json()["results"][0]["status"] == "updated"
    assert api.post("/api/episodes/batch", json=grown).json()["results"][0]["status"] == "duplicate"
    found = api.post("/api/episodes/search", json={"query_text": "zeppelin", "project_filter": project}).json()
    assert [hit["episode_id"] for hit in found["results"]] == ["grow"]


def test_growth_keeps_what_a_person_changed(api: httpx.Client, project: str) -> None:
    """Tags and project set by hand survive the next update of the text; new tags are added."""
    one = _note(project, "Short.", episode_id="grow-hand", tags=["from-source"])
    api.post("/api/episodes/batch", json={"episodes": [one]})
    api.patch("/api/episodes/grow-hand", json={"tags": ["mine"], "project": f"{project}-moved"})
    grown = {**one, "summary": "Short, and then more.", "tags": ["from-source", "later"]}
    api.post("/api/episodes/batch", json={"episodes": [grown], "on_conflict": "update"})
    kept = api.get("/api/episodes/grow-hand").json()
    assert kept["summary"] == "Short, and then more."
    assert (kept["tags"], kept["project"]) == (["mine", "from-source", "later"], f"{project}-moved")


def test_the_last_of_several_versions_counts(api: httpx.Client, project: str) -> None:
    """Two versions of one new id in one updating batch: the later one is kept."""
    versions = [_note(project, text, episode_id="versions") for text in ("First.", "First and second.")]
    results = api.post("/api/episodes/batch", json={"episodes": versions, "on_conflict": "update"}).json()["results"]
    assert [one["status"] for one in results] == ["duplicate", "created"]
    assert api.get("/api/episodes/versions").json()["summary"] == "First and second."


def test_a_patch_and_an_update_do_not_undo_each_other(api: httpx.Client, project: str) -> None:
    """While a patch embeds, an update of the same episode waits: neither the tag nor the new text is lost."""
    one = _note(project, "Before.", episode_id="both", raw_exchange="word " * 3000)
    api.post("/api/episodes", json=one)
    grown = {**one, "summary": "After.", "raw_exchange": "word " * 3000 + "zeppelin"}
    with ThreadPoolExecutor(2) as threads:
        patched = threads.submit(api.patch, "/api/episodes/both", json={"tags": ["mine"]})
        updated = threads.submit(api.post, "/api/episodes/batch", json={"episodes": [grown], "on_conflict": "update"})
        assert (patched.result().status_code, updated.result().status_code) == (200, 200)
    kept = api.get("/api/episodes/both").json()
    assert kept["raw_exchange"].endswith("zeppelin")
    assert "mine" in kept["tags"]


def test_every_way_in_is_redacted(api: httpx.Client, project: str) -> None:
    """Create, batch, patch and import all replace secrets and drop private blocks."""
    secret = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"
    text = f"Token {secret} <private>my diary</private> was used"
    places = {"kind": "api", "url": f"https://ada:{secret}@example.org/", "path": f"/tmp/{secret}"}
    marked = _note(project, text, raw_exchange=text + " 1", tags=[secret], source=places)
    one = api.post("/api/episodes", json=marked).json()
    api.post("/api/episodes/batch", json={"episodes": [_note(project, "b", raw_exchange=text + " 2")]})
    patched = api.patch(f"/api/episodes/{one['episode_id']}", json={"raw_exchange": text + " 3"}).json()
    line = json.dumps({**one, "episode_id": "imported", "summary": text, "raw_exchange": text + " 4"})
    assert api.post("/api/episodes/import", content=line.encode()).json()["created"] == 1
    everything = api.post("/api/episodes/export", json={"project_filter": project}).text
    assert secret not in everything
    assert "diary" not in everything
    assert everything.count("[REDACTED:") >= 5
    assert patched["content_hash"] != one["content_hash"]


def test_a_patch_changes_only_what_it_names(api: httpx.Client, project: str) -> None:
    """Tags change without touching text; a twin of another episode is refused."""
    one = api.post("/api/episodes", json=_note(project, "The first.", tags=["a", "a", "b"])).json()
    assert one["tags"] == ["a", "b"]
    changed = api.patch(f"/api/episodes/{one['episode_id']}", json={"tags": ["c"]}).json()
    assert changed == {**one, "tags": ["c"]}
    api.post("/api/episodes", json=_note(project, "The second."))
    assert api.patch(f"/api/episodes/{one['episode_id']}", json={"summary": "The second."}).status_code == 409
    assert api.patch("/api/episodes/none", json={"tags": []}).status_code == 404


def test_filters_apply_before_ranking(api: httpx.Client, project: str) -> None:
    """A filter that leaves one episode finds it, however many others would rank above it."""
    episodes = [
        _note(project, f"The blue lamp number {n} was mended.", tags=["many"], timestamp="2026-01-01T00:00:00Z")
        for n in range(30)
    ]
    episodes.append(_note(project, "A lamp.", tags=["rare", "many"], timestamp="2025-01-01T00:00:00Z", instance="desk"))
    api.post("/api/episodes/batch", json={"episodes": episodes})
    question = {"query_text": "which blue lamp was mended?", "project_filter": project, "floor": 0}
    for narrow in ({"tag_filter": ["rare", "many"]}, {"instance_filter": "desk"}, {"until": "2025-06-01T00:00:00Z"}):
        hits = api.post("/api/episodes/search", json={**question, **narrow}).json()["results"]
        assert [hit["summary"] for hit in hits] == ["A lamp."], narrow
    page = api.get("/api/episodes", params={"project": project, "tag": "many", "limit": 10, "skip": 25}).json()
    assert (page["total"], len(page["episodes"])) == (31, 6)


def test_explain_adds_up(api: httpx.Client, project: str) -> None:
    """The contributions of all terms are the score; without `explain` there are none."""
    api.post("/api/episodes/batch", json={"episodes": [_note(project, f"Lamp {n} is green.") for n in range(5)]})
    question = {"query_text": "green lamp", "project_filter": project, "floor": 0, "explain": True}
    answer = api.post("/api/episodes/search", json=question).json()
    for hit in answer["results"]:
        assert sum(reason["contribution"] for reason in hit["reasons"]) == pytest.approx(hit["score"], abs=1e-9)
        assert all(r["value"] * r["weight"] == pytest.approx(r["contribution"]) for r in hit["reasons"])
    assert answer["explanation"]["lexical"] in ("bm25", "$search")
    plain = api.post("/api/episodes/search", json={**question, "explain": False}).json()
    assert plain["explanation"] is None
    assert all(hit["reasons"] is None for hit in plain["results"])


def test_silence_when_nothing_is_relevant(api: httpx.Client, project: str) -> None:
    """A question about something else is answered by nothing, unless the floor is lifted."""
    api.post("/api/episodes", json=_note(project, "We moved the payment service to port 8471."))
    question = {"query_text": "how long do I bake a rye bread?", "project_filter": project}
    assert api.post("/api/episodes/search", json=question).json() == {
        "results": [],
        "abstained": True,
        "explanation": None,
    }
    assert len(api.post("/api/episodes/search", json={**question, "floor": 0}).json()["results"]) == 1


def test_the_token_budget_holds(api: httpx.Client, project: str) -> None:
    """What does not fit goes without its raw exchange first, and is left out after that."""
    api.post(
        "/api/episodes/batch",
        json={"episodes": [_note(project, f"Lamp {n}.", raw_exchange=f"{n} lamp " * 100) for n in range(4)]},
    )
    question = {"query_text": "lamp", "project_filter": project, "floor": 0, "explain": True}
    whole = api.post("/api/episodes/search", json=question).json()["results"]
    assert len(whole) == 4
    answer = api.post("/api/episodes/search", json={**question, "token_budget": 206}).json()
    sizes = [len(hit["summary"]) + len(hit["raw_exchange"] or "") for hit in answer["results"]]
    assert sum(sizes) <= 206 * 4
    assert answer["results"][0]["raw_exchange"] is not None
    assert answer["results"][-1]["raw_exchange"] is None
    tiny = api.post("/api/episodes/search", json={**question, "token_budget": 1}).json()
    assert tiny["results"] == []
    assert tiny["explanation"]["dropped_by_budget"] == 4


def test_superseded_episodes_step_back_and_return(api: httpx.Client, project: str) -> None:
    """A superseded episode is not found, unless asked for, and then below its successor."""
    for name, text in (("old", "The port is 80."), ("new", "The port is 81 now.")):
        api.post("/api/episodes", json=_note(project, text, episode_id=f"sup-{name}"))
    change = {"episode_ids": ["sup-old"], "superseded_by": "sup-new"}
    assert api.post("/api/episodes/supersede", json=change).json() == {"changed": 1}
    question = {"query_text": "The port is 80.", "project_filter": project, "floor": 0}

    def found(**more: object) -> list[str]:
        hits = api.post("/api/episodes/search", json={**question, **more}).json()["results"]
        return [hit["episode_id"] for hit in hits]

    assert found() == ["sup-new"]
    assert found(include_superseded=True) == ["sup-new", "sup-old"]
    assert api.post("/api/episodes/unsupersede", json={"episode_ids": ["sup-old"]}).json() == {"changed": 1}
    assert set(found()) == {"sup-new", "sup-old"}
    missing = {"episode_ids": ["sup-old"], "superseded_by": "nobody"}
    assert api.post("/api/episodes/supersede", json=missing).status_code == 404
    assert api.post("/api/episodes/supersede", json=change).json() == {"changed": 1}
    back = {"episode_ids": ["sup-new"], "superseded_by": "sup-old"}
    assert api.post("/api/episodes/supersede", json=back).status_code == 409
    assert found() == ["sup-new"]
    itself = {"episode_ids": ["sup-old"], "superseded_by": "sup-old"}
    assert api.post("/api/episodes/supersede", json=itself).status_code == 400


def test_what_was_deleted_stays_away(api: httpx.Client, project: str) -> None:
    """A deleted episode does not come back by id or by content until it is lifted from the blocklist."""
    body = _note(project, "Gone for good.", episode_id="gone")
    api.post("/api/episodes", json=body)
    assert api.delete("/api/episodes/gone").json() == {"changed": 1}
    assert api.delete("/api/episodes/gone").status_code == 404
    for again in (body, {**body, "episode_id": "gone-2"}, {**body, "summary": "Other words."}):
        assert api.post("/api/episodes/batch", json={"episodes": [again]}).json()["results"][0]["status"] == "blocked"
    refused = api.post("/api/episodes", json=body)
    assert (refused.status_code, refused.json()["error"]["detail"]["status"]) == (409, "blocked")
    [entry] = [one for one in api.get("/api/blocklist").json()["items"] if one["episode_id"] == "gone"]
    assert api.delete("/api/blocklist", params={"blocked_id": entry["blocked_id"]}).json() == {"changed": 1}
    assert api.post("/api/episodes", json=body).status_code == 201
    assert api.delete("/api/blocklist").status_code == 400


def test_forgetting_takes_what_was_derived_and_proves_it(api: httpx.Client, project: str) -> None:
    """The receipt names the episode, its copy elsewhere and what was consolidated from it; the proof is zero."""
    root = api.post("/api/episodes", json=_note(project, "My name is Yusuf.", episode_id="root")).json()
    api.post("/api/episodes", json=_note(project + "-copy", "My name is Yusuf.", episode_id="root-copy"))
    derived = {**root, "episode_id": "derived", "summary": "A person called Yusuf.", "consolidated_from": ["root"]}
    further = {**root, "episode_id": "further", "summary": "Yusuf, again.", "consolidated_from": ["derived"]}
    lines = "\n".join(json.dumps(one) for one in (derived, further))
    assert api.post("/api/episodes/import", content=lines.encode()).json()["created"] == 2
    receipt = api.post("/api/episodes/root/forget").json()
    assert set(receipt["episodes"]) == {"root", "root-copy", "derived", "further"}
    assert receipt["proof"] == {"by_id": 0, "by_content": 0, "vectors": 0, "index": 0, "blocklist": 4}
    assert receipt["vectors"] >= 4
    assert len(receipt["blocked"]) == 4
    hits = api.post("/api/episodes/search", json={"query_text": "Yusuf", "project_filter": project, "floor": 0}).json()
    assert hits["results"] == []
    assert api.post("/api/episodes/import", content=lines.encode()).json()["blocked"] == 2
    again = api.post("/api/episodes/root/forget").json()  # as after an answer that was lost
    assert (again["episodes"], again["content_hash"]) == (["root"], receipt["content_hash"])
    assert again["proof"] == {**receipt["proof"], "blocklist": 1}
    assert api.post("/api/episodes/never-there/forget").status_code == 404


def test_forgotten_text_comes_back_by_no_change(api: httpx.Client, project: str) -> None:
    """Changing another episode to a text that was forgotten is refused."""
    for name, text in (("forgotten", "My name is Ines."), ("stays", "Something else.")):
        api.post("/api/episodes", json=_note(project, text, episode_id=f"change-{name}"))
    assert api.post("/api/episodes/change-forgotten/forget").status_code == 200
    refused = api.patch("/api/episodes/change-stays", json={"summary": "My name is Ines."})
    assert (refused.status_code, refused.json()["error"]["detail"]["status"]) == (409, "blocked")


def test_export_and_import_are_inverse(api: httpx.Client, project: str) -> None:
    """What is exported, deleted and imported again is the same, counters included."""
    notes = [_note(project, f"Note {n}.", timestamp=f"2026-02-0{n + 1}T00:00:00Z") for n in range(5)]
    api.post("/api/episodes/batch", json={"episodes": notes})
    api.post("/api/episodes/search", json={"query_text": "Note 3.", "project_filter": project, "top_k": 1, "floor": 0})
    exported = api.post("/api/episodes/export", json={"project_filter": project}).content
    episodes = [json.loads(line) for line in exported.splitlines()]
    for one in episodes:
        api.delete(f"/api/episodes/{one['episode_id']}", params={"block": False})
    assert api.get("/api/episodes", params={"project": project}).json()["total"] == 0
    result = api.post("/api/episodes/import", content=exported + b"\n\n").json()
    assert (result["created"], result["refused"]) == (5, 0)
    assert api.post("/api/episodes/export", json={"project_filter": project}).content == exported
    assert api.post("/api/episodes/import", content=exported).json()["duplicates"] == 5


def test_an_import_makes_the_ids_that_a_post_makes(api: httpx.Client, project: str) -> None:
    """A line without an id gets it from the redacted text, as a POST does: the two meet as duplicates."""
    note = _note(project, f"Token {'ghp_' + 'aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG6'}.", timestamp="2026-01-01T00:00:00Z")
    made = api.post("/api/episodes", json=note).json()["episode_id"]
    assert api.delete(f"/api/episodes/{made}", params={"block": False}).status_code == 200
    assert api.post("/api/episodes/import", content=json.dumps(note).encode()).json()["created"] == 1
    assert api.get(f"/api/episodes/{made}").status_code == 200


def test_an_import_refuses_lines_without_quoting_them(api: httpx.Client, project: str) -> None:
    """Bad lines are counted, the first is named by number and reason; good ones around them arrive."""
    good = json.dumps(_note(project, "Fine."))
    bad = json.dumps(_note(project, "Private words.", trust="everybody"))
    result = api.post("/api/episodes/import", content=f"{good}\nnot json\n{bad}\n".encode()).json()
    assert (result["created"], result["refused"]) == (1, 2)
    assert result["first_refusal"].startswith("line 2: ")
    assert "not json" not in result["first_refusal"]
    only_bad = api.post("/api/episodes/import", content=bad.encode()).json()
    assert "trust" in only_bad["first_refusal"]
    assert "Private" not in only_bad["first_refusal"]


def test_settings_are_written_only_over_the_version_that_was_read(api: httpx.Client) -> None:
    """Two writers of one setting: the second is told instead of overwriting."""
    assert api.get("/api/settings/never-set").status_code == 404
    first = api.put("/api/settings/theme", json={"dark": True}).json()
    assert api.get("/api/settings/theme").json() == first
    version = {"version": first["version"]}
    assert api.put("/api/settings/theme", json={"dark": False}, params=version).status_code == 200
    assert api.put("/api/settings/theme", json={"dark": None}, params=version).status_code == 409


def test_a_lease_has_one_holder(place: Stack) -> None:
    """While one holds a lease another gets 409; the holder renews and gives back."""
    with place.client("memory") as memory:
        for holder, seconds, status in (("a", 60, 200), ("b", 60, 409), ("a", 60, 200)):
            taken = memory.post("/api/leases/nightly", json={"holder": holder, "seconds": seconds})
            assert taken.status_code == status
        assert memory.delete("/api/leases/nightly", params={"holder": "b"}).json() == {"changed": 0}
        assert memory.delete("/api/leases/nightly", params={"holder": "a"}).json() == {"changed": 1}
        assert memory.post("/api/leases/nightly", json={"holder": "b", "seconds": 0.001}).status_code == 200


def test_only_services_may_ask_whose_a_key_is(place: Stack) -> None:
    """The key check answers services and refuses everybody else, an admin's key included."""
    with place.client("memory") as memory:
        assert memory.post("/api/keys/check", json={"hash": "0" * 64}).status_code == 403
        service = {"X-API-Key": SERVICE_KEY}
        assert memory.post("/api/keys/check", json={"hash": "0" * 64}, headers=service).status_code == 404


def test_texts_are_embedded_by_the_active_model(api: httpx.Client) -> None:
    """Vectors of texts are of length 1, the same however they are asked for, and a long text has one too."""
    long = "The lamp was mended. " * 380
    answer = api.post("/api/embedding/texts", json={"texts": ["a lamp", "a lamp", long]})
    assert answer.status_code == 200
    body = answer.json()
    vectors = np.stack([np.frombuffer(base64.b64decode(one), "<f4") for one in body["vectors"]])
    assert vectors.shape == (3, body["dimension"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[0], vectors[1], atol=1e-5)
    query = api.post("/api/embedding/texts", json={"texts": ["a lamp"], "kind": "query"}).json()
    asked = np.frombuffer(base64.b64decode(query["vectors"][0]), "<f4")
    assert float(asked @ vectors[0]) > 0.99  # this model has no prefixes: a question is embedded as any text
    assert body["model"] == query["model"] == api.get("/api/embedding/config").json()["active"]["name"]
    for refused in (["x"] * 257, ["x" * 8001], [""], []):
        assert api.post("/api/embedding/texts", json={"texts": refused}).status_code == 422


def test_unknown_fields_and_odd_text_are_refused_clearly(api: httpx.Client, project: str) -> None:
    """A misspelt filter is 422, not a wider search; what cannot be stored is named."""
    misspelt = api.post("/api/episodes/search", json={"query_text": "x", "project": project})
    assert (misspelt.status_code, misspelt.json()["error"]["detail"][0]["where"]) == (422, "body.project")
    for odd in ("nul \x00", "lone \ud800"):
        body = json.dumps(_note(project, odd)).encode()
        refused = api.post("/api/episodes", content=body, headers={"Content-Type": "application/json"})
        assert refused.status_code == 422, odd
