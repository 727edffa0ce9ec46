"""What a case runs as: a process that imports a handler and gives it events, as AWS Lambda's runtime does.

`python start.py MODULE EVENTS`, the latter a file of events by name. It reads lines `NAME COUNT`, calls so often, and
answers each line with a line of JSON: `{"ms", "cpu_ms"}` of each call, and `rss_kib`. At the end of its input it is
gone at once, so that what is counted of it is the calls.
"""

import json
import os
import sys
import time
from pathlib import Path


class Context:
    """What the handlers read of Lambda's context object."""

    aws_request_id = "8f5a2a0e-0000-4000-8000-000000000000"
    function_name = "bench"
    memory_limit_in_mb = 1024

    def get_remaining_time_in_millis(self) -> int:
        return 28_000


def rss_kib() -> int:
    resident = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(resident) * os.sysconf("SC_PAGE_SIZE") // 1024


def main() -> None:
    module, path = sys.argv[1:]
    handler = __import__(module).handler
    events = json.loads(Path(path).read_text("utf-8"))
    number = 0
    for line in sys.stdin:
        name, count = line.split()
        ms: list[float] = []
        cpu_ms: list[float] = []
        for _ in range(int(count)):
            number += 1
            event = json.loads(events[name])
            event["headers"]["idempotency-key"] = f"bench-{number}"
            started, cpu_started = time.perf_counter(), time.process_time()
            answer = handler(event, Context())
            cpu_ms.append((time.process_time() - cpu_started) * 1000)
            ms.append((time.perf_counter() - started) * 1000)
            if answer["statusCode"] not in (200, 201):
                raise SystemExit(f"{name}: {answer}")
        print(json.dumps({"ms": ms, "cpu_ms": cpu_ms, "rss_kib": rss_kib()}), flush=True)
    sys.stdout.flush()
    os._exit(0)


main()
