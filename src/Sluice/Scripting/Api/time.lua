-- Clocks, dates and ngx.sleep.
local api = ...
local host = api.host
local ngx = ngx
local type, error, select, tonumber = type, error, select, tonumber
local math_floor = math.floor
local string = api.string
local gsub = string.gsub
local must_be, raising, wait = api.must_be, api.raising, api.wait

local SLEEP = host.waits.Sleep

ngx.now = host.now
function ngx.time() return math_floor(host.now()) end
function ngx.today() return host.time_text(false, true) end
function ngx.localtime() return host.time_text(false, false) end
function ngx.utctime() return host.time_text(true, false) end
function ngx.update_time() end
local http_time, parse_http_time = raising(host.http_time), raising(host.parse_http_time)
function ngx.http_time(seconds)
  if type(seconds) ~= "number" then
    error("number argument only", 2)
  end
  return http_time(seconds)
end
function ngx.cookie_time(seconds)
  if type(seconds) ~= "number" then
    error("number argument only", 2)
  end
  return (gsub(http_time(seconds), "(%d%d) (%a%a%a) (%d%d)(%d%d)", function(day, month, century, year)
    return day .. "-" .. month .. "-" .. (century .. year > "2037" and century or "") .. year
  end, 1))
end
function ngx.parse_http_time(text)
  if type(text) ~= "string" then
    error("string argument only", 2)
  end
  return (parse_http_time(text))
end

function ngx.sleep(...)
  if select("#", ...) ~= 1 then
    error("attempt to pass " .. select("#", ...) .. " arguments, but accepted 1", 2)
  end
  local seconds = tonumber((...))
  if not seconds then
    must_be("number", ..., 1, "sleep")
  elseif not (seconds >= 0) then
    error("invalid sleep duration \"" .. seconds * 1000 .. "\"", 2)
  end
  wait(SLEEP, seconds)
end
