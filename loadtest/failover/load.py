"""Clients that submit tasks, each under a key of its own, to any node, again until one takes it.

load.py STOP TAKEN URL...: goes on until the file STOP is there; writes "KEY ID" lines to TAKEN.
"""

import json
import os
import random
import sys
import threading
import time
import urllib.error
import urllib.request

CLIENTS = 8
PATIENCE_S = 180


def submit(url: str, key: str) -> str | None:
    """The id of the task, or nothing when this node does not take it now."""
    body = json.dumps({"agent": "echo", "input": key}).encode()
    headers = {"content-type": "application/json", "idempotency-key": key}
    request = urllib.request.Request(f"{url}/v1/tasks", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["id"]
    except urllib.error.HTTPError as error:
        if error.code < 500 and error.code != 429:
            raise
    except OSError:
        pass
    return None


def client(number: int, stop: str, taken, lock: threading.Lock, urls: list[str]) -> None:
    """Submits one task after the other."""
    count = 0
    while not os.path.exists(stop):
        key, until = f"{os.getpid()}-{number}-{count}", time.monotonic() + PATIENCE_S
        while (id := submit(random.choice(urls), key)) is None:
            if until < time.monotonic():
                print(f"{key} is never taken", file=sys.stderr)
                os._exit(1)
            time.sleep(0.05)
        with lock:
            taken.write(f"{key} {id}\n")
            taken.flush()
        count += 1


def main() -> None:
    stop, path, *urls = sys.argv[1:]
    lock = threading.Lock()
    with open(path, "w") as taken:
        threads = [
            threading.Thread(target=client, args=(number, stop, taken, lock, urls))
            for number in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
