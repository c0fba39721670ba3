-- Digests and random bytes.
local api = ...
local host = api.host
local ngx = ngx
local type, ipairs, select, setmetatable = type, ipairs, select, setmetatable
local concat, insert = table.concat, table.insert
local exactly, hex, must_be, raising, text_of = api.exactly, api.hex, api.must_be, api.raising, api.text_of
local preload = package.preload

local digest, hmac = raising(host.digest), raising(host.hmac)

function ngx.md5(text) return hex(digest("md5", text_of(text))) end
function ngx.md5_bin(text) return digest("md5", text_of(text)) end
function ngx.sha1_bin(text) return digest("sha1", text_of(text)) end
function ngx.hmac_sha1(...)
  exactly(2, "expecting 2 arguments, but got ", ...)
  for i = 1, 2 do
    local value = select(i, ...)
    if type(value) ~= "number" then
      must_be("string", value, i, "hmac_sha1")
    end
  end
  return hmac("sha1", ...)
end
local crc32 = raising(host.crc32)
function ngx.crc32_long(text) return crc32(text_of(text)) end
ngx.crc32_short = ngx.crc32_long

local function hasher(algorithm)
  return {
    new = function()
      return setmetatable({ parts = {} }, { __index = {
        update = function(self, text) insert(self.parts, text) return true end,
        final = function(self) return digest(algorithm, concat(self.parts)) end,
        reset = function(self) self.parts = {} return true end,
      } })
    end,
  }
end

for _, algorithm in ipairs { "md5", "sha1", "sha256", "sha384", "sha512" } do
  preload["resty." .. algorithm] = function() return hasher(algorithm) end
end
preload["resty.random"] = function() return { bytes = function(n) return host.random(n) end } end
