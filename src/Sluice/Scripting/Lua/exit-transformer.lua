-- The functions of exit-transformer, which stand behind this one in their unit: each gets an answer's status, body and header, and returns the new ones
local unit, _, code, body, is_table = ...
local core, cjson = require("apisix.core"), require("cjson.safe")

code = tonumber(code)
local given = body
if body and is_table == "1" then
  given = cjson.decode(body)
end
local before = type(given) == "table" and cjson.encode(given) or given
local header = {}

for i = 2, #unit.functions do
  local ok, new_code, new_body, new_header = pcall(unit.functions[i], code, given, header)
  if ok then
    code, given, header = new_code, new_body, new_header
  else
    core.log.error("failed to run lua code: ", new_code)
  end
end

local is_text = type(given) == "string" or type(given) == "number"
local after = type(given) == "table" and cjson.encode(given) or is_text and tostring(given) or nil
local changed = after ~= before and (after and "set" or "none") or "same"
return tonumber(code) and tostring(code), changed, after and type(given) == "table" and after .. "\n" or after,
  type(header) == "table" and next(header) ~= nil and cjson.encode(header) or nil
