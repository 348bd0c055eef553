"""Reads transcripts as they are configured when a run begins: roots and rules may be others than the last time."""

from collections.abc import Callable

from anamnesis.contracts.summaries import JsonlConfig, Significance
from anamnesis.destination import Destination
from anamnesis.transcripts.episodes import Maker
from anamnesis.transcripts.progress import Progress
from anamnesis.transcripts.significance import tuned
from anamnesis.transcripts.sync import Sync
from services.ingest.configuration import Configuration


class Reader:
    """One run after the other. Where other rules than before are set, the next run judges everything anew."""

    def __init__(
        self,
        destination: Destination,
        maker: Maker,
        configuration: Configuration,
        instance: str,
        on_progress: Callable[[Progress], None],
    ) -> None:
        """`maker` judges by the settings alone; what is configured per project goes before."""
        self._maker = maker
        self._configuration = configuration
        self._sync = Sync(destination, maker, (), instance, on_progress)
        self._judged_by: tuple[Significance, ...] | None = None
        self._again = False
        configuration.listen(self._changed)

    async def run(self, *, anew: bool = False) -> Progress:
        """Raises what memory and the destination raise."""
        config = await self._configuration.refresh()
        maker = self._maker.judging(tuned(self._maker.rules, config.significance))
        self._sync.read_by(maker, self._configuration.roots)
        again, self._again = self._again, False
        try:
            return await self._sync.run(anew=anew or again)
        except BaseException:
            self._again = self._again or again
            raise

    def _changed(self, config: JsonlConfig) -> None:
        known, self._judged_by = self._judged_by, config.significance
        self._again = self._again or (known is not None and known != config.significance)
