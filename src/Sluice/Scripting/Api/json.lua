-- cjson, with settings as OpenResty's has them.
local api = ...
local host = api.host
local type, error, pairs, select, tostring, tonumber, setmetatable = type, error, pairs, select, tostring, tonumber, setmetatable
local math_floor = math.floor
local null = host.null
local MANY, array_mt, checked, must_be = api.MANY, api.array_mt, api.checked, api.must_be
local preload = package.preload

local empty_array_mt = {}
local cjson
-- Settings of cjson: what each may be
local INVALID, SWITCH = { off = 0, on = 1, null = 2 }, { on = 1, off = 0 }
local CHOICES = {
  encode_empty_table_as_object = INVALID, encode_escape_forward_slash = INVALID, encode_keep_buffer = SWITCH, encode_invalid_numbers = INVALID,
  decode_array_with_array_mt = INVALID, decode_invalid_numbers = SWITCH,
}
local LARGEST = { encode_max_depth = MANY, encode_number_precision = 16, decode_max_depth = MANY }

-- What is the current choice, as it was chosen
local function choice(value, name, options)
  if type(value) == "boolean" then
    return value
  elseif type(value) ~= "string" and type(value) ~= "number" then
    must_be("string", value, 1, name)
  elseif not options[value] then
    error("bad argument #1 to '" .. name .. "' (invalid option '" .. value .. "')", 3)
  end
  return value ~= "off" and (value == "on" or value)
end

local function whole(value, n, name, least, most)
  local number = tonumber(value)
  if not number then
    must_be("number", value, n, name)
  elseif number < least or number > most then
    error("bad argument #1 to '" .. name .. "' (expected integer between " .. least .. " and " .. most .. ")", 3)
  end
  return math_floor(number)
end

-- As OpenResty's lua-cjson; each instance has settings of its own
function cjson(safe, slashes, marked)
  local set = {
    encode_empty_table_as_object = true, encode_escape_forward_slash = slashes, encode_keep_buffer = true, encode_invalid_numbers = false,
    encode_max_depth = 1000, encode_number_precision = 14, decode_array_with_array_mt = marked, decode_invalid_numbers = true, decode_max_depth = 1000,
  }
  local sparse, ratio, sparse_safe = false, 2, 10
  local function at_most(n, name, ...)
    if select("#", ...) > n then
      error("bad argument #" .. n + 1 .. " to '" .. name .. "' (found too many arguments)", 3)
    end
  end
  local json = {
    null = null, _NAME = "cjson", _VERSION = "2.1.0.13", array_mt = array_mt, empty_array_mt = empty_array_mt, empty_array = setmetatable({}, array_mt),
    new = function() return cjson(safe, true, false) end,
    encode_sparse_array = function(...)
      at_most(3, "encode_sparse_array", ...)
      local convert, of, least = ...
      if convert ~= nil then sparse = choice(convert, "encode_sparse_array", SWITCH) end
      if of ~= nil then ratio = whole(of, 2, "encode_sparse_array", 0, MANY) end
      if least ~= nil then sparse_safe = whole(least, 3, "encode_sparse_array", 0, MANY) end
      return sparse, ratio, sparse_safe
    end,
  }
  for name, options in pairs(CHOICES) do
    json[name] = function(...)
      if (...) ~= nil then set[name] = choice(..., name, options) end
      return set[name]
    end
  end
  for name, most in pairs(LARGEST) do
    json[name] = function(...)
      at_most(1, name, ...)
      if (...) ~= nil then set[name] = whole(..., 1, name, 1, most) end
      return set[name]
    end
  end
  local function encode(value)
    local invalid = set.encode_invalid_numbers
    return checked(host.json_encode(value, empty_array_mt, set.encode_escape_forward_slash, not set.encode_empty_table_as_object, invalid == "null" and 2 or invalid and 1 or 0,
      set.encode_max_depth, set.encode_number_precision, sparse, ratio, sparse_safe))
  end
  local function decode(text)
    return checked(host.json_decode(text, set.decode_array_with_array_mt, set.decode_max_depth, not set.decode_invalid_numbers))
  end
  function json.encode(...)
    if select("#", ...) ~= 1 then
      error("bad argument #1 to 'encode' (expected 1 argument)", 2)
    end
    local text, err = encode((...))
    if text then
      return text
    elseif safe then
      return nil, err
    end
    error(err, 2)
  end
  function json.decode(...)
    if select("#", ...) ~= 1 then
      error("bad argument #1 to 'decode' (expected 1 argument)", 2)
    end
    local text = ...
    if type(text) ~= "string" and type(text) ~= "number" then
      if safe then
        return nil, "bad argument #1 to '?' (string expected, got " .. type(text) .. ")"
      end
      must_be("string", text, 1, "decode")
    end
    local value, err = decode(tostring(text))
    if not err then
      return value
    elseif safe then
      return nil, err
    end
    error(err, 2)
  end
  return json
end

preload["cjson"] = function() return cjson(false, true, false) end
-- with the settings that APISIX gives it for all
preload["cjson.safe"] = function() return cjson(true, false, true) end
