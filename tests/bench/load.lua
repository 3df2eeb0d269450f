-- What wrk sends: the same request with the next key each time; at the end, figures as JSON.
local requests, at = {}, 0

function init()
    local size = tonumber(os.getenv("BENCH_BODY"))
    if size > 0 then
        wrk.method, wrk.body = "POST", string.rep("x", size)
    end
    if os.getenv("BENCH_CLOSE") == "1" then wrk.headers["Connection"] = "close" end
    wrk.headers["User-Agent"] = "bench/1.0"
    for key in io.lines(os.getenv("BENCH_KEYS")) do
        wrk.headers["X-API-Key"] = key
        requests[#requests + 1] = wrk.format()
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local e = summary.errors
    print(string.format(
        '{"requests":%d,"seconds":%f,"p50_us":%d,"p99_us":%d,"non_2xx":%d,"errors":%d}',
        summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
        e.status, e.connect + e.read + e.write + e.timeout))
end
