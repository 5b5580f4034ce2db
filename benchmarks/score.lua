-- wrk: posts the JSON bodies of a file (one a line) in turn; prints counts and latencies as one line of JSON.
-- wrk -s score.lua URL -- FILE
local requests, at = {}, 0

function init(args)
  local headers = { ["Content-Type"] = "application/json" }
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, line)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency, _)
  local e = summary.errors
  print(string.format(
    'wrk {"requests": %d, "seconds": %.6f, "bad_status": %d, "lost": %d, "p50_ms": %.4f, "p99_ms": %.4f, "worst_ms": %.4f}',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
