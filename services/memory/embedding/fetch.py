"""Download one model from the Hugging Face hub: `python -m services.memory.embedding.fetch REPO DIRECTORY PARENT`.

A process of its own, so that the service can stop it and never imports what it needs; it ends with the service.
Files that are whole stay from try to try. Within one, the hub's client begins anew after this process was ended,
and leaves what it had of it: that is removed.
"""

import sys
import urllib.parse
from pathlib import Path

from services.memory.embedding.parent import end_with

WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]
UNWANTED = ["onnx/*", "openvino/*"]
CONNECT_SECONDS = 5.0


def main(repo: str, directory: str) -> int:
    """Exit status 0, or 1 with the reason as the only line on standard output."""
    from huggingface_hub import HfApi, constants, snapshot_download

    for broken in Path(directory).glob(".cache/huggingface/download/**/*.incomplete"):
        broken.unlink(missing_ok=True)
    try:
        HfApi().model_info(repo, timeout=CONNECT_SECONDS)
        snapshot_download(
            repo, local_dir=directory, allow_patterns=WANTED, ignore_patterns=UNWANTED, etag_timeout=CONNECT_SECONDS
        )
    except Exception as error:  # noqa: BLE001 - the edge of this process: the reason is its output
        host = urllib.parse.urlsplit(constants.ENDPOINT).netloc
        sys.stdout.write(f"{type(error).__name__} from {host}\n")
        return 1
    return 0


if __name__ == "__main__":
    end_with(int(sys.argv[3]))
    sys.exit(main(sys.argv[1], sys.argv[2]))
