-- wrk's side of eval/bench/load.py: the requests of a load, and what came back as one line of JSON, the last on stdout.
-- Arguments: kind, prefix of the keys, highest order number, names of stocks.

local senders = 0

function setup(thread)
  thread:set("sender", senders)
  senders = senders + 1
end

function init(arguments)
  kind, prefix, highest = arguments[1], arguments[2], tonumber(arguments[3])
  names = {}
  for i = 4, #arguments do names[#names + 1] = arguments[i] end
  count = 0
  math.randomseed(os.time() + sender)
end

local function place_order()
  local name = names[math.floor(count / 2) % #names + 1]
  local side = count % 2 == 0 and "buy" or "sell"
  local headers = {
    ["Content-Type"] = "application/json",
    ["Idempotency-Key"] = string.format(
      "%s-%s-7%03x-8000-%012x", prefix:sub(1, 8), prefix:sub(9, 12), sender, count),
  }
  local body = string.format('{"name": "%s", "type": "%s", "quantity": 1}', name, side)
  return wrk.format("POST", "/orders", headers, body)
end

function request()
  local result
  if kind == "trade" then
    result = place_order()
  elseif kind == "look_up" then
    result = wrk.format("GET", "/stocks/" .. names[count % #names + 1])
  else
    result = wrk.format("GET", "/orders/" .. math.random(highest))
  end
  count = count + 1
  return result
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "errors": %d, "refused": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    summary.duration, latency:percentile(50), latency:percentile(99)))
end
