-- One script a line, each the body of an access function: what goes wrong, by mistake or on purpose. None may harm anybody else.
local t = {} t[1] = t ngx.say(t)
local t = {} t.a = t require("cjson").encode(t)
require("cjson").decode(("["):rep(200000))
local t = {} for i = 1, 5000 do t = { t } end require("cjson").encode(t)
while true do ngx.print(("x"):rep(1000000)) end
while true do ngx.print(("x"):rep(1000000)) ngx.flush() end
while true do ngx.print("x") ngx.flush(true) end
for i = 1, 40 do ngx.print(("x"):rep(10000000)) end
local function f() return 1 + f() end f()
local function f(n) return n == 0 and 0 or 1 + coroutine.wrap(function() return f(n - 1) end)() end f(10000)
local t = {} for i = 1, 200000 do t[i] = coroutine.create(function() end) end
local function f() ngx.thread.spawn(f) ngx.thread.spawn(f) ngx.sleep(0) end f()
for i = 1, 5000 do ngx.socket.tcp() end
unpack({}, 1, 1e7)
local t = {} for i = 1, 7900 do t[i] = i end return unpack(t)
local t = {} for i = 1, 100 do t[i] = ("x"):rep(1e7) end table.concat(t)
local s = "x" while true do pcall(function() s = s .. s end) end
leak = {} for i = 1, 1e8 do leak[#leak + 1] = { i } end
collectgarbage("stop") while true do local t = {} end
(("a"):rep(100000)):find(("a*"):rep(30) .. "b")
ngx.re.match(("a"):rep(100000), "(a+)+b")
ngx.re.gsub(("a"):rep(3000000), "a", "bbbbbbbbbb")
for i = 1, 100000 do ngx.re.match("a", "a" .. i, "jo") end
local d = ngx.shared.hostile for i = 1, 1e7 do d:set("k" .. i, ("v"):rep(1000)) end
for i = 1, 1e6 do ngx.header["X-" .. i] = "v" end
ngx.header["X-Big"] = ("x"):rep(5000000) ngx.say("x")
ngx.header["X-A"] = "a\r\nX-Evil: 1" ngx.header["Transfer-Encoding"] = "chunked" ngx.header["Content-Length"] = -1 ngx.say("x")
ngx.status = 0/0 ngx.say("x")
ngx.exit(0/0)
ngx.sleep(0/0)
ngx.sleep(1e300)
require("ngx.semaphore").new(0):wait(0/0)
ngx.say(setmetatable({}, { __tostring = function() while true do end end }))
while true do pcall(function() while true do end end) end
xpcall(function() while true do end end, function() while true do end end)
while true do coroutine.resume(coroutine.create(function() while true do end end)) end
coroutine.wrap(function() while true do coroutine.yield() end end)() while true do coroutine.yield() end
local s = require("ngx.semaphore").new(0) while true do s:post() s:wait(1) end
while true do ngx.sleep(0) end
ngx.location.capture("/" .. ngx.var.route_id)
local u = "/" .. ngx.var.route_id ngx.location.capture_multi({ { u }, { u }, { u } })
return ngx.exec("/" .. ngx.var.route_id)
return ngx.exec(("/x"):rep(100000))
ngx.req.set_body_data(("x"):rep(50000000))
local t = {} for i = 1, 1e6 do t["a" .. i] = i end ngx.req.set_uri_args(t)
ngx.log(ngx.ERR, ("x"):rep(10000000))
table.sort({ 3, 2, 1 }, function() ngx.sleep(0) return true end)
ngx.thread.wait(coroutine.running())
ngx.print("a") ngx.flush(true) error({})
error(setmetatable({}, { __tostring = function() error("again") end }))
local s = ngx.socket.tcp() s:connect("127.0.0.1", -1) s:connect(("x"):rep(100000), 1) s:connect("unix:" .. ("x"):rep(300))
local s = ngx.req.socket(true) while true do s:send(("x"):rep(100000)) end
