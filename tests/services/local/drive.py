"""`drive.py DATA BEHAVIOURS...`: a supervisor over fake services, one for each argument (`a:8001:crash,never`)."""

import asyncio
import os
import sys
from pathlib import Path

from services.local.child import Spec
from services.local.screen import Screen
from services.local.settings import LocalSettings
from services.local.supervisor import Supervisor

FAKE = Path(__file__).with_name("fake.py")


def spec(text: str) -> Spec:
    name, port, *rest = text.split(":", 2)
    behaviours = rest[0].split(",") if rest and rest[0] else []
    command = (sys.executable, "-S", str(FAKE), port, *behaviours)
    return Spec(name, command, dict(os.environ), f"http://127.0.0.1:{port}")


within = float(os.environ.get("START_WITHIN", "30"))
settings = LocalSettings(data_dir=Path(sys.argv[1]), local_start_within=within, local_stop_within=1.0)
settings.data.mkdir(exist_ok=True)
sys.exit(asyncio.run(Supervisor(settings, [spec(text) for text in sys.argv[2:]], Screen()).run()))
