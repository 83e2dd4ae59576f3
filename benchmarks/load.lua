-- wrk script: the documented Ringing with a new UniqueId each time, Basic auth; prints one JSON line at the end.
local n, thread_count = 0, 0
function setup(thread) thread:set("id", thread_count); thread_count = thread_count + 1 end
function init(args) token = args[1] end
function request()
  n = n + 1
  local body = string.format('{"EventName":"Ringing","From":"777888999","To":"222333444","Line":"444",' ..
    '"Email":"petr.novak@jehofirma.cz","Login":"petr.novak","UniqueId":"14122562%02d.%d"}', id, math.floor(n / 6))
  return wrk.format("POST", "/voipex", {["Authorization"] = "Basic " .. token, ["Content-Type"] = "application/json",
    ["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, body)
end
function done(summary, latency)
  io.write(string.format('JSON {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"not_2xx":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
