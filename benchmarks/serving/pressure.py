"""wrk that tells scored requests from refused ones: how many of each, and the latency of those that were scored."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from run import Contender, cpu_seconds, latency

# Each request carries when it was sent as its id, which the answer repeats. In microseconds, in buckets of 100.
SCRIPT = r"""
local ffi = require('ffi')
ffi.cdef[[ typedef struct { long s; long ns; } timespec; int clock_gettime(int, timespec *); ]]
local time = ffi.new('timespec')
local function now() ffi.C.clock_gettime(1, time); return tonumber(time.s) * 1e6 + tonumber(time.ns) / 1e3 end
local bodies, last, threads = { @BODIES@ }, 0, {}
local head = { ['Content-Type'] = 'application/json' }
scored, refused, unannounced, other, buckets = 0, 0, 0, 0, {}
request = function()
  last = last % #bodies + 1
  head['X-Request-Id'] = string.format('%.0f', now())
  return wrk.format('POST', nil, head, bodies[last])
end
response = function(status, headers, body)
  if status == 200 then
    local bucket = math.floor((now() - tonumber(string.match(body, '"request_id":"(%d+)"'))) / 100)
    scored, buckets[bucket] = scored + 1, (buckets[bucket] or 0) + 1
  elseif status == 503 then
    refused = refused + 1
    if not (headers['retry-after'] or headers['Retry-After']) then unannounced = unannounced + 1 end
  else
    other = other + 1
  end
end
setup = function(thread) table.insert(threads, thread) end
done = function(summary)
  local thread, pairs_of = threads[1], {}
  for bucket, count in pairs(thread:get('buckets')) do table.insert(pairs_of, '[' .. bucket .. ',' .. count .. ']') end
  io.write(string.format('OUTCOME {"scored":%d,"refused":%d,"unannounced":%d,"other":%d,"seconds":%f,"buckets":[%s]}\n',
    thread:get('scored'), thread:get('refused'), thread:get('unannounced'), thread:get('other'),
    summary.duration / 1e6, table.concat(pairs_of, ',')))
end
@DELAY@
"""


@dataclass(frozen=True)
class Outcome:
    """What came of a load.

    Attributes:
        connections: How many there were.
        offered: Requests per second, whatever their answers.
        scored: Those that were scored, per second.
        refused: Those that were refused with 503 and Retry-After, per second.
        other: Answers that were neither, timeouts included.
        p50: Of scored requests, in milliseconds.
        p99: The same.
        all_p50: Of all answers, in milliseconds: the refusals' own where most are refused.
        busy: The service's share of its core.
    """

    connections: int
    offered: float
    scored: float
    refused: float
    other: int
    p50: float
    p99: float
    all_p50: float
    busy: float


def write_script(file: Path, bodies: list[str], delay_milliseconds: int = 0) -> Path:
    """Write the script for wrk; with a delay each connection waits so long between two requests."""
    delay = f"delay = function() return {delay_milliseconds} end" if delay_milliseconds else ""
    listed = ",\n".join(f"[==[{body}]==]" for body in bodies)
    file.write_text(SCRIPT.replace("@BODIES@", listed).replace("@DELAY@", delay))
    return file


def press(server: Contender, script: Path, connections: int, seconds: float, target: str = "/v1/score") -> Outcome:
    """Load a server from the first core for so long."""
    command = [
        "taskset", "-c", "0", "wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "10s", "--latency",
        "-s", str(script), f"http://127.0.0.1:{server.port}{target}",
    ]  # fmt: skip
    before = cpu_seconds(server.group)
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cost = cpu_seconds(server.group) - before
    found = json.loads(re.search("OUTCOME (.*)", said)[1])
    lost = sum(map(int, re.findall(r"\d+", m[1]))) if (m := re.search("Socket errors: (.*)", said)) else 0
    took, buckets = found["seconds"], sorted(found["buckets"])
    return Outcome(
        connections, (found["scored"] + found["refused"]) / took, found["scored"] / took, found["refused"] / took,
        found["other"] + found["unannounced"] + lost, percentile(buckets, 0.5), percentile(buckets, 0.99),
        latency(said, 50), cost / took,
    )  # fmt: skip


def percentile(buckets: list[list[int]], share: float) -> float:
    """Return a percentile in milliseconds of counts by buckets of 100 us; nan of nothing."""
    wanted, passed = share * sum(count for _, count in buckets), 0
    for bucket, count in buckets:
        passed += count
        if passed >= wanted:
            return (bucket + 1) / 10
    return float("nan")
