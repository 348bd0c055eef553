"""Ingest end to end beside the model alone: transcripts on disk to searchable episodes, over HTTP, in one run.

    python -m bench.ingest [--data ../shared/data/beam-100k] [--chats 3] [--json OUT] [--markdown OUT]

Real conversations (BEAM, converted to Claude Code transcripts) go through `anamnesis ingest` into a memory service
that was just started. The reference embeds the very same windows with `SentenceTransformer.encode`, same precision
and batch size, one thread, in a process of its own, without anything around it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from services.memory.embedding import cpu
from services.memory.embedding.registry import Registry
from services.memory.search.text import cut, passage, tokens_of
from tests.e2e.conftest import Stack

MODEL = "all-MiniLM-L6-v2"
BATCH = 32
DATA = Path(__file__).parents[2] / "shared/data/beam-100k"

RAW = """
import json, sys, time, torch
from sentence_transformers import SentenceTransformer
torch.set_num_threads(1)
directory, bf16, batch = sys.argv[1], sys.argv[2] == "1", int(sys.argv[3])
windows = json.load(sys.stdin)
model = SentenceTransformer(directory, device="cpu", model_kwargs={"dtype": torch.bfloat16 if bf16 else torch.float32})
model.encode(windows[:batch], batch_size=batch)
started = time.perf_counter()
model.encode(windows, batch_size=batch, show_progress_bar=False)
print(time.perf_counter() - started)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--chats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"{options.data} is absent; give the directory of BEAM chats with --data")
    directory = Registry(Path("/nonexistent"), download=False).locate(MODEL)
    assert directory is not None
    with tempfile.TemporaryDirectory() as scratch:
        transcripts, data = Path(scratch) / "transcripts", Path(scratch) / "data"
        for chat in sorted(options.data.iterdir())[: options.chats]:
            subprocess.run([sys.executable, "-m", "tests.beam_transcripts", str(chat), str(transcripts)], check=True)
        size = sum(file.stat().st_size for file in transcripts.rglob("*.jsonl"))
        data.mkdir()
        stack = Stack(data)
        try:
            stack.start()
            times = []
            for _ in range(2):
                started = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-m", "services.console.main", "ingest", str(transcripts)],
                    env=stack.environment, check=True, stdout=sys.stderr,
                )  # fmt: skip
                times.append(time.perf_counter() - started)
            with stack.client() as client, client.stream("POST", "/api/episodes/export", json={}) as response:
                episodes = [json.loads(line) for line in response.iter_lines()]
        finally:
            stack.stop()
    tokens = tokens_of(directory)
    windows = [
        window for one in episodes for window in cut(passage(one["summary"], one["raw_exchange"]), 256, tokens).windows
    ]
    bf16 = cpu.bf16_is_faster()
    print(f"embedding the same {len(windows)} windows with the model alone ...", file=sys.stderr)
    raw = float(
        subprocess.run(
            [sys.executable, "-c", RAW, str(directory), str(int(bf16)), str(BATCH)], input=json.dumps(windows).encode(),
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, capture_output=True, check=True,
        ).stdout
    )  # fmt: skip
    result = {
        "transcript_mb": round(size / 1e6, 2),
        "episodes": len(episodes),
        "windows": len(windows),
        "precision": "bf16" if bf16 else "fp32",
        "ingest_s": round(times[0], 2),
        "raw_encode_s": round(raw, 2),
        "ratio": round(raw / times[0], 3),
        "unchanged_again_s": round(times[1], 2),
    }
    text = (
        "# Ingest end to end beside the model alone\n\n`python -m bench.ingest` on "
        f"{os.cpu_count()} cores, embedding on one of them ({result['precision']}). Target: >= 0.9 x the raw rate.\n\n"
        "| | seconds | windows a second |\n|---|---|---|\n"
        f"| `encode` alone, batches of {BATCH} | {raw:.1f} | {len(windows) / raw:.1f} |\n"
        f"| transcripts to searchable episodes | {times[0]:.1f} | {len(windows) / times[0]:.1f} |\n"
        f"| the same again, nothing changed | {times[1]:.2f} | |\n\n"
        f"{result['transcript_mb']} MB of transcripts, {len(episodes)} episodes, {len(windows)} windows. "
        f"**Ratio {result['ratio']:.2f}** (the command's own start included).\n"
    )
    print(text)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
