"""What each event is answered: memory before a session and a prompt, and afterwards what of it was of use."""

from collections.abc import Sequence
from typing import NamedTuple

from anamnesis.contracts.chat import Recalled
from anamnesis.contracts.episodes import EpisodePage
from anamnesis.contracts.hooks import HookInput
from anamnesis.contracts.usefulness import EpisodeVerdict, Verdict
from anamnesis.kit.client import Query, ServiceClient
from anamnesis.kit.errors import AnamnesisError
from anamnesis.transcripts.wrappers import clean, is_command
from services.gateway.hooks.events import HookEvent, project_of
from services.gateway.hooks.reading import Reading
from services.gateway.hooks.sessions import PATIENCE, HookSession, HookSessions
from services.gateway.recall import MemoryScope, Recall, fence, recalled, source_of, tame
from services.gateway.reports import Reports
from services.gateway.usefulness import used

LATEST = 5  # episodes that a session begins with
LATEST_CHARACTERS = 400  # of each
MAX_CONTEXT = 9_500
"""Characters of a block: Claude Code takes 10,000 and puts what is longer into a file instead."""
MAX_PROMPT = 4_000  # characters of a prompt that are kept to measure against


class Scope(NamedTuple):
    """Where to recall from, as the caller's headers say; none = the project of the session, all instances."""

    project: str | None = None
    instance: str | None = None


class Answered(NamedTuple):
    outcome: str
    """For a header and a metric: one of few words."""
    block: str = ""


class Answers:
    """`wait` in seconds: what memory may take."""

    def __init__(
        self,
        memory: ServiceClient,
        recall: Recall,
        reading: Reading,
        reports: Reports,
        sessions: HookSessions,
        wait: float,
    ) -> None:
        self._memory = memory
        self._recall = recall
        self._reading = reading
        self._reports = reports
        self._sessions = sessions
        self._wait = wait

    async def answer(self, event: HookEvent, told: HookInput, owner: str, scope: Scope) -> Answered:
        match event:
            case HookEvent.SESSION_START:
                return await self._begin(told, owner, scope)
            case HookEvent.USER_PROMPT_SUBMIT:
                return await self._prompt(told, owner, scope)
            case HookEvent.STOP:
                self._measure(told, owner)
            case HookEvent.PRE_COMPACT:
                self._sessions.get(owner, told.session_id).compact()
            case HookEvent.SESSION_END:
                self._end(told, owner)
            case HookEvent.SUBAGENT_STOP:
                pass
        self._reading.want()
        return Answered("nothing-to-read" if self._reading.sees is False else "asking-ingest")

    async def _begin(self, told: HookInput, owner: str, scope: Scope) -> Answered:
        """The latest of the project, in few words."""
        if told.agent_id:
            return Answered("subagent")
        session = self._session(told, owner)
        if told.source in ("clear", "compact"):
            session.compact()
        query: Query = {
            "project": scope.project or session.project,
            "instance": scope.instance,
            "limit": 2 * LATEST,
        }
        if query["project"] is None:
            return Answered("no-project")
        try:
            page = await self._memory.get("/api/episodes", EpisodePage, query, deadline=self._wait)
        except AnamnesisError as error:
            return Answered(error.code.replace("_", "-"))
        fresh = [one for one in page.episodes if self._is_news(one.episode_id, source_of(one), told, session)]
        latest = [one for one in fresh if one.superseded_by is None][:LATEST]
        texts = [tame(one.summary)[:LATEST_CHARACTERS] for one in latest]
        return self._tell(session, [recalled(one) for one in latest], texts, "")

    async def _prompt(self, told: HookInput, owner: str, scope: Scope) -> Answered:
        """What bears on the user's words and is not in the conversation yet."""
        if told.agent_id:
            return Answered("subagent")
        prompt = clean(told.prompt)
        if not prompt or is_command(prompt):
            return Answered("nothing-asked")
        session = self._session(told, owner)
        if prompt[:MAX_PROMPT] == session.prompt:
            return Answered("recalled" if session.block else "silent", session.block)
        where = MemoryScope(scope.project or session.project, scope.instance)
        remembered = await self._recall.recall(prompt, where)
        if remembered.error is not None:
            return Answered("unavailable")
        news = [
            (one, text)
            for one, text in zip(remembered.episodes, remembered.texts, strict=True)
            if self._is_news(one.episode_id, one.source, told, session)
        ]
        session.prompt = prompt[:MAX_PROMPT]
        answered = self._tell(session, [one for one, _ in news], [text for _, text in news], session.prompt)
        session.block = answered.block
        return answered if news or not remembered.episodes else Answered("known-already")

    def _tell(self, session: HookSession, episodes: Sequence[Recalled], texts: Sequence[str], prompt: str) -> Answered:
        """As many of the episodes as fit, the first ones first."""
        count = len(episodes)
        while count and len(block := fence(episodes[:count], texts[:count])) > MAX_CONTEXT:
            count -= 1
        for one, text in zip(episodes[:count], texts, strict=False):
            session.tell(one.episode_id, text, prompt)
        return Answered("recalled", block) if count else Answered("silent")

    def _is_news(self, episode_id: str, source: str, told: HookInput, session: HookSession) -> bool:
        """Whether it is not in the conversation: told before, or a part of this very session."""
        own = told.session_id and told.session_id in source and not session.compacted
        return not own and episode_id not in session.told

    def _session(self, told: HookInput, owner: str) -> HookSession:
        session = self._sessions.get(owner, told.session_id)
        if session.project is None:
            session.project = project_of(told.cwd)
        return session

    def _measure(self, told: HookInput, owner: str) -> None:
        """Which of the episodes that were told the answer made use of; each has a few answers' time."""
        session = self._sessions.get(owner, told.session_id)
        answer = told.last_assistant_message
        if not answer or not session.pending or session.answer == hash(answer):
            return
        session.answer = hash(answer)
        prompts = "\n".join(dict.fromkeys((*(one.prompt for one in session.pending.values()), session.prompt)))
        verdicts = used(answer, [one.text for one in session.pending.values()], prompts)
        over: list[EpisodeVerdict] = []
        for (episode_id, one), useful in zip([*session.pending.items()], verdicts, strict=True):
            one.answers += 1
            if useful or one.answers >= PATIENCE:
                del session.pending[episode_id]
                over.append(EpisodeVerdict(episode_id=episode_id, verdict=Verdict.USED if useful else Verdict.UNUSED))
        self._reports.send(over)

    def _end(self, told: HookInput, owner: str) -> None:
        """What was of no use until now will be of none."""
        session = self._sessions.end(owner, told.session_id)
        if session is not None:
            unused = [episode_id for episode_id, one in session.pending.items() if one.answers]
            self._reports.send([EpisodeVerdict(episode_id=one, verdict=Verdict.UNUSED) for one in unused])
