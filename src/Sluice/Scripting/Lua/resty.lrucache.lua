-- A cache that forgets what was not used for longest: a table and a ring in order of use.
local cache = {}
cache.__index = cache

local function unlink(node)
  node.before.after, node.after.before = node.after, node.before
end

local function put_first(self, node)
  local first = self.ring.after
  node.before, node.after, first.before, self.ring.after = self.ring, first, node, node
end

function cache.new(size)
  if size < 1 then
    return nil, "size too small"
  end
  local ring = {}
  ring.before, ring.after = ring, ring
  return setmetatable({ size = size, n = 0, nodes = {}, ring = ring }, cache)
end

function cache:get(key)
  local node = self.nodes[key]
  if not node then
    return nil
  end
  unlink(node)
  put_first(self, node)
  if node.expires and node.expires < ngx.now() then
    return nil, node.value, node.flags
  end
  return node.value, nil, node.flags
end

function cache:set(key, value, ttl, flags)
  local node = self.nodes[key]
  if node then
    unlink(node)
  elseif self.n >= self.size then
    node = self.ring.before
    unlink(node)
    self.nodes[node.key] = nil
  else
    node = {}
    self.n = self.n + 1
  end
  node.key, node.value, node.flags, node.expires = key, value, flags or 0, ttl and ngx.now() + ttl or nil
  self.nodes[key] = node
  put_first(self, node)
end

function cache:delete(key)
  local node = self.nodes[key]
  if not node then
    return false
  end
  unlink(node)
  self.nodes[key] = nil
  self.n = self.n - 1
  return true
end

function cache:count() return self.n end
function cache:capacity() return self.size end
function cache:get_keys(max)
  local keys, node = {}, self.ring.after
  while node ~= self.ring and (not max or max == 0 or #keys < max) do
    keys[#keys + 1] = node.key
    node = node.after
  end
  return keys
end
function cache:flush_all()
  self.nodes, self.n = {}, 0
  self.ring.before, self.ring.after = self.ring, self.ring
end

return cache
