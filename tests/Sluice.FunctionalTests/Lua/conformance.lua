-- Cases that nginx's Lua module and Sluice must answer alike: POST /NAME?x=1&y=a%20b&x=2&e&tcp=PORT&udp=PORT with a form as its body.
local cases = {}
local say = ngx.say

local function show(value)
  if type(value) ~= "table" then
    return tostring(value)
  end
  local keys, out = {}, {}
  for key in pairs(value) do
    keys[#keys + 1] = key
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do
    out[i] = tostring(key) .. "=" .. show(value[key])
  end
  return "{" .. table.concat(out, ",") .. "}"
end

local held
local function tell(...)
  local out = {}
  for i = 1, select("#", ...) do
    out[i] = show((select(i, ...)))
  end
  out = table.concat(out, " ")
  if held then
    held[#held + 1] = out
  else
    say(out)
  end
end

-- What is told meanwhile is said afterwards: what is said sends the headers
local function unsaid(f)
  held = {}
  local ok, err = pcall(f)
  local lines = held
  held = nil
  say(table.concat(lines, "\n"))
  if not ok then
    say(err)
  end
end

-- What a call returns, or its error without the place
local function told(f, ...)
  local function after(ok, ...)
    if ok then
      return tell("ok", ...)
    end
    tell("error", (tostring((...)):gsub("^[^ ]+:%d+: ", "")))
  end
  after(pcall(f, ...))
end

-- Output
cases.say = function() say("a", 1, 1.5, true, nil, ngx.null, { "b", { 2, "c" } }) say() end
cases.print = function() ngx.print("a", 1, false, nil) ngx.print({ "x", 1, "y" }) end
cases.print_returns = function() tell(ngx.print("")) tell(ngx.say("x")) tell(ngx.flush()) tell(ngx.flush(true)) tell(ngx.flush(false)) end
cases.flush = function() ngx.print("one") ngx.flush(true) ngx.print("two") ngx.flush(false) ngx.print("three") end
cases.exit_status = function() ngx.header["X-A"] = "b" return ngx.exit(204) end
cases.exit_after_body = function() ngx.status = 201 say("made") return ngx.exit(200) end
cases.status_read = function() ngx.status = 202 tell(ngx.status) end
cases.redirect = function() return ngx.redirect("/there?q=1") end
cases.redirect_301 = function() return ngx.redirect("http://example.com/", 301) end
cases.redirect_bad = function() tell((pcall(ngx.redirect, "/x", 200))) end
cases.eof = function() ngx.print("end") tell(ngx.eof()) end
cases.eof_then = function()
  ngx.say("a") ngx.eof() ngx.say("b")
  tell(ngx.eof()) tell(ngx.print("c")) tell(ngx.flush())
end
cases.eof_then_fails = function() ngx.print("whole") ngx.eof() ngx.sleep(0) error("late trouble") end
cases.headers_sent = function() tell(ngx.headers_sent) ngx.flush(true) tell(ngx.headers_sent) end
cases.header = function()
  ngx.header.X_Under = "u" ngx.header["X-List"] = { "a", "b" } ngx.header["X-Gone"] = "x" ngx.header["X-Gone"] = nil ngx.header.content_type = "text/html"
  tell(ngx.header["X-Under"], ngx.header.x_list, ngx.header["X-Gone"], ngx.header.nothing)
end
cases.resp_get_headers = function()
  ngx.header["X-One"] = "1" ngx.header["X-Two"] = { "a", "b" }
  local h = ngx.resp.get_headers()
  tell(h["x-one"], h["X-Two"], h.x_one, h.nothing)
end
cases.add_header = function()
  local resp = require("ngx.resp")
  resp.add_header("X-A", "1") resp.add_header("X-A", "2") tell(ngx.header["X-A"])
end

-- The request
cases.req_method = function() tell(ngx.req.get_method(), ngx.var.request_method) ngx.req.set_method(ngx.HTTP_PUT) tell(ngx.req.get_method()) end
cases.req_headers = function()
  local h = ngx.req.get_headers()
  tell(h["x-test"], h.x_test, h["X-Test"], h.nothing, ngx.var.http_x_test)
end
cases.req_set_header = function()
  ngx.req.set_header("X-New", "n") ngx.req.set_header("X-Many", { "a", "b" }) ngx.req.clear_header("X-Test")
  local h = ngx.req.get_headers()
  tell(h["x-new"], h["x-many"], h["x-test"])
end
cases.req_header_underscore = function()
  ngx.req.set_header("x_under", "u") ngx.req.clear_header("x_test") tell(ngx.var.http_x_under) ngx.req.set_header("X-Under", "d")
  local h = ngx.req.get_headers()
  tell(h["X-Test"], h["x_under"], h["x-under"], rawget(h, "x_under"), rawget(h, "x-under"))
  ngx.req.clear_header("X-Under") h = ngx.req.get_headers() tell(rawget(h, "x_under"), rawget(h, "x-under"), ngx.var.http_x_under)
end
cases.header_underscore = function() ngx.header["X-One"] = "1" ngx.header.x_one = "2" tell(ngx.header["x_one"], ngx.resp.get_headers()["X-One"]) end
cases.var_arg = function() ngx.req.set_uri_args("?&e&E2&x=1&=v&e3=&X=2&y=%20+") for _, name in ipairs { "e", "E2", "x", "X", "e3", "y" } do tell(ngx.var["arg_" .. name]) end end
cases.connection = function()
  tell(tonumber(ngx.var.connection) > 0, type(ngx.var.connection), ngx.var.connection:match("^%d+$") ~= nil, tonumber(ngx.var.connection_requests) > 0)
  local before = ngx.var.request_length ngx.req.read_body() tell(ngx.var.request_length - before, before - #ngx.req.raw_header())
  ngx.req.set_body_data("another body, longer than the first one") tell(ngx.var.request_length - before)
end
cases.req_uri_args = function()
  local a = ngx.req.get_uri_args()
  tell(a.x, a.y, a.e, ngx.var.arg_y, ngx.var.arg_nothing)
  tell(ngx.req.get_uri_args(1))
end
cases.req_set_uri_args = function()
  ngx.req.set_uri_args("q=1&r=2") tell(ngx.var.args, ngx.var.arg_q)
  ngx.req.set_uri_args({ k = "a b" }) tell(ngx.var.args)
end
cases.req_set_uri = function() ngx.req.set_uri("/other") tell(ngx.var.uri) end
cases.req_body = function()
  tell(pcall(function() return ngx.req.get_body_file() end))
  ngx.req.read_body() tell(ngx.req.get_body_data(), ngx.req.get_body_file()) tell(ngx.req.get_post_args())
end
cases.req_set_body = function() ngx.req.read_body() ngx.req.set_body_data("new=1") tell(ngx.req.get_body_data(), ngx.req.get_post_args()) end
cases.req_discard = function() tell(ngx.req.discard_body()) end
cases.req_facts = function() tell(ngx.req.http_version(), ngx.req.start_time() > 1e9, ngx.req.is_internal(), #ngx.req.raw_header() > 20) end
cases.req_raw_header = function() tell((ngx.req.raw_header():match("^[^ ]+ /[%w_]+"))) tell((ngx.req.raw_header(true):match("^%w+%-?%w*:") ~= nil)) end
cases.var = function() tell(ngx.var.uri, ngx.var.request_method, ngx.var.scheme, ngx.var.nothing_here, ngx.var.http_x_test, ngx.var.content_length) end
cases.vars = function()
  for _, name in ipairs { "host", "http_host", "request", "request_uri", "args", "query_string", "is_args", "document_uri", "uri", "content_type", "content_length", "server_protocol",
    "scheme", "https", "arg_x", "arg_none", "cookie_none", "http_none", "sent_http_none", "remote_user", "body_bytes_sent", "request_completion", "upstream_addr", "upstream_status" } do
    say(name, " ", tostring(ngx.var[name]))
  end
  for name, pattern in pairs { request_id = "^%x+$", pid = "^%d+$", msec = "^%d+%.%d%d%d$", time_iso8601 = "^%d+%-%d+%-%d+T", time_local = "^%d+/%a+/%d+:", request_time = "^%d+%.%d%d%d$",
    request_length = "^%d+$", hostname = "." } do
    if not tostring(ngx.var[name]):find(pattern) then
      say(name, " ", tostring(ngx.var[name]))
    end
  end
end
cases.req_leftovers = function()
  tell(pcall(ngx.req.set_uri, "")) tell((pcall(ngx.req.set_header, "X-A"))) tell(ngx.req.get_headers(2)["x-none"])
  ngx.req.set_header("X-Empty", "") ngx.req.set_header("x-test", { "a", "b" }) tell(ngx.req.get_headers()["x-empty"], ngx.req.get_headers()["X-Test"])
  ngx.req.set_uri_args({}) tell(ngx.var.args, ngx.var.is_args)
  ngx.req.read_body() ngx.req.init_body() ngx.req.append_body("a=") ngx.req.append_body("b") ngx.req.finish_body() tell(ngx.req.get_body_data(), ngx.req.get_post_args())
end
cases.post_args_unread = function() local ok, err = pcall(ngx.req.get_post_args) tell(ok, (err:gsub("^[^ ]+:%d+: ", ""))) end
cases.body = function()
  tell(pcall(ngx.req.get_body_data)) tell((pcall(ngx.req.get_body_file)))
  tell(ngx.req.read_body()) tell(ngx.req.read_body())
  local data, file = ngx.req.get_body_data(), ngx.req.get_body_file()
  tell(data and #data, file ~= nil, file and #io.open(file):read("*a"))
  local args, err = ngx.req.get_post_args()
  tell(args and args.a, args and args.b and #args.b, err)
end
cases.lrucache = function()
  local lru = require("resty.lrucache")
  tell(lru.new(0)) tell((pcall(lru.new)))
  local c = lru.new(2)
  c:set("a", 1) c:set("b", { 2 }, 60, 7) tell(c:get("a")) tell(type(c:get("b")), select(3, c:get("b")))
  tell(c:count(), c:capacity()) tell(c:get_keys()) tell(c:get_keys(1)) c:set("c", 3) tell(c:get("a")) tell(c:get("c"))
  c:set("e", 5, 0.001) ngx.sleep(0.01) tell(c:get("e")) c:delete("e") tell(c:get("e")) tell(c:delete("none")) tell(c:count())
  tell((pcall(c.set, c, nil, 1))) c:flush_all() tell(c:count(), c:get("c")) tell(c:set("x", 1)) tell(c:get("x"))
end
cases.post_args_max = function() ngx.req.read_body() tell(ngx.req.get_post_args(2)) end
cases.headers_sent_late = function() say("x") ngx.flush(true) tell((pcall(function() ngx.header["X-Late"] = "1" end))) tell((pcall(function() ngx.status = 404 end))) tell(ngx.status) end
cases.ctx = function() ngx.ctx.a = 1 tell(ngx.ctx.a, ngx.ctx.b) ngx.ctx = { c = 3 } tell(ngx.ctx.a, ngx.ctx.c) end
cases.facts = function() tell(ngx.get_phase(), ngx.is_subrequest, ngx.config.subsystem, type(ngx.worker.pid()), ngx.worker.exiting(), type(ngx.worker.count())) end
cases.constants = function() tell(ngx.OK, ngx.ERROR, ngx.AGAIN, ngx.DONE, ngx.DECLINED, ngx.HTTP_OK, ngx.HTTP_GET, ngx.HTTP_TRACE, ngx.ERR, ngx.DEBUG, ngx.null) end

local function count(t) local n = 0 for _ in pairs(t) do n = n + 1 end return n end
cases.req_header_limits = function()
  for i = 1, 120 do ngx.req.set_header("X-N" .. i, i) end
  local headers, err = ngx.req.get_headers() tell(count(headers), err) headers, err = ngx.req.get_headers(0) tell(count(headers) >= 120, err) headers, err = ngx.req.get_headers(2) tell(count(headers), err)
  tell(ngx.req.get_headers(0, true)["X-Test"], ngx.req.get_headers(0, true)["x-test"], ngx.req.get_headers().X_TEST, ngx.req.get_headers()[1], ngx.req.get_headers(-1)["x-n7"])
end
cases.req_header_arguments = function()
  told(ngx.req.set_header) told(ngx.req.set_header, "X") told(ngx.req.set_header, nil, "x") told(ngx.req.clear_header, "none") told(ngx.req.set_header, "", "x") told(ngx.req.set_header, "X\r\nY", "a\r\nb: c") tell(ngx.req.get_headers().x)
  for _, value in ipairs { "", true, 1.5, {}, { "a", 1, "b" }, { true }, "a\r\nb\0c\td", " padded " } do told(ngx.req.set_header, "X", value) tell(ngx.req.get_headers().x) end
  told(ngx.req.set_header, "Y Z", "1") for name, value in pairs(ngx.req.get_headers()) do if name:find("^y") then tell(name, value) end end told(ngx.req.set_header, 12, 13) tell(ngx.req.get_headers()["12"])
  told(ngx.req.clear_header, "x_test") tell(ngx.req.get_headers()["x-test"]) told(ngx.req.clear_header, "X-TEST") tell(ngx.req.get_headers()["x-test"], ngx.var.http_x_test)
  ngx.req.set_header("Host", "Other.com:81") tell(ngx.var.host, ngx.var.http_host) ngx.req.set_header("Content-Type", "x/y") tell(ngx.var.content_type) ngx.req.set_header("User-Agent", "me") tell(ngx.var.http_user_agent)
  ngx.req.set_header("Cookie", "a=1; b=2") tell(ngx.var.cookie_a, ngx.var.cookie_b, ngx.var.http_cookie) ngx.req.clear_header("Cookie") tell(ngx.var.cookie_a)
end
cases.req_add_header = function()
  local req = require("ngx.req")
  told(req.add_header, "X-A", "1") told(req.add_header, "X-A", { "2", 3 }) tell(ngx.req.get_headers()["x-a"]) told(req.add_header, "X-A", {}) told(req.add_header, "X-A") told(req.add_header) told(req.add_header, "X-B", true) tell(ngx.req.get_headers()["x-b"])
end
cases.req_uri_arguments = function()
  local into = { 9, x = 3 } local args = ngx.req.get_uri_args(0, into) tell(args == into, args) tell(ngx.req.get_uri_args(-1)) tell(ngx.req.get_uri_args(2))
  told(function() ngx.req.set_uri_args() end) told(function() ngx.req.set_uri_args(nil) end) told(function() ngx.req.set_uri_args(true) end) told(ngx.req.set_uri_args, {}, 1)
  for _, value in ipairs { 12, "", "a b\r\nc", "?x=1", "a=%41&b", { a = "1 2" }, { a = { 1, true } } } do told(ngx.req.set_uri_args, value) tell(ngx.var.args, ngx.var.is_args) tell(ngx.req.get_uri_args()) end
  told(function() ngx.req.set_uri() end) told(function() ngx.req.set_uri(nil) end) told(function() ngx.req.set_uri("/x", 1) end) told(function() ngx.req.set_uri("/x", nil) end) told(ngx.req.set_uri, "/x", false, true, 1)
  for _, uri in ipairs { "", "/a b?c#d", "/a\r\n", "/a\0b", "/\127", "/../x", "/%41", "/\228\189\160", "/a+b" } do told(ngx.req.set_uri, uri) tell(ngx.var.uri) end told(ngx.req.set_uri, "/a\1", false, true) tell(ngx.var.uri) told(ngx.req.set_uri, "/x", true)
end
cases.req_methods = function()
  for _, method in ipairs { "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "MKCOL", "COPY", "MOVE", "PROPFIND", "PROPPATCH", "LOCK", "UNLOCK", "PATCH", "TRACE" } do
    if method ~= "HEAD" then ngx.req.set_method(ngx["HTTP_" .. method]) tell(ngx.req.get_method(), ngx.var.request_method) end
  end
end
cases.req_body_arguments = function()
  told(ngx.req.set_body_data, "x") told(ngx.req.init_body) told(ngx.req.append_body, "x") told(ngx.req.finish_body) told(function() ngx.req.read_body(1) end) told(function() return (ngx.req.get_post_args("x")) end) tell(ngx.req.get_body_data())
  ngx.req.read_body() tell(ngx.var.request_body, ngx.var.request_body_file) told(ngx.req.get_post_args, 1) told(ngx.req.get_post_args, 0)
  told(function() ngx.req.set_body_data() end) told(function() ngx.req.set_body_data(nil) end) told(function() ngx.req.set_body_data({}) end)
  for _, body in ipairs { 12, "c=%41&d" } do told(ngx.req.set_body_data, body) tell(ngx.req.get_body_data(), ngx.req.get_headers()["content-length"], ngx.var.request_body) tell(ngx.req.get_post_args()) end
  told(function() ngx.req.init_body("x") end) told(ngx.req.init_body, -1) told(ngx.req.init_body) told(function() ngx.req.append_body() end) told(function() ngx.req.append_body(nil) end)
end
cases.req_read_twice = function() tell(ngx.req.discard_body()) ngx.req.read_body() tell(ngx.req.get_body_data()) end

-- The answer's headers, status and end: as long as nothing is said
cases.header_arguments = function() unsaid(function()
  for _, value in ipairs { "a", true, 1.5, {}, { "a", true, 1 }, "a\r\nb\0c", "" } do told(function() ngx.header["X-V"] = value end) tell(ngx.header["X-V"]) end
  told(function() ngx.header[""] = "x" end) tell(ngx.header[1]) told(function() ngx.header["X Y"] = "1" end)
  ngx.header.location = "/x" tell(ngx.header.Location) ngx.header.location = nil ngx.header.last_modified = ngx.http_time(0) tell(ngx.header["Last-Modified"]) ngx.header.etag = '"x"' tell(ngx.header.ETag) ngx.header.cache_control = { "a", "b" }
  tell(ngx.header["Cache-Control"]) ngx.header["Set-Cookie"] = { "a=1", "b=2" } tell(ngx.header.set_cookie) tell(ngx.header.nothing) ngx.header.content_type = "text/x; charset=utf-8" tell(ngx.header["Content-Type"])
end) end
cases.resp_header_limits = function() unsaid(function()
  for i = 1, 120 do ngx.header["X-N" .. i] = i end
  local headers, err = ngx.resp.get_headers() tell(count(headers), err) headers, err = ngx.resp.get_headers(0) tell(headers["x-n120"], headers.x_n1, err) tell(ngx.resp.get_headers(0, true)["X-N1"], ngx.resp.get_headers(0, true)["x-n1"])
  told(function() return (ngx.resp.get_headers("x")) end) for i = 1, 120 do ngx.header["X-N" .. i] = nil end
  local resp = require("ngx.resp") told(resp.add_header) told(resp.add_header, "X-A") told(resp.add_header, "X-A", {}) told(resp.add_header, "X-A", true) told(resp.add_header, "X-A", { "b", 2 }) tell(ngx.header["X-A"])
end) end
cases.status_arguments = function() unsaid(function()
  told(function() ngx.status = "x" end) told(function() ngx.status = nil end) told(function() ngx.status = "404" end) tell(ngx.status) told(function() ngx.status = 200.7 end) tell(ngx.status)
  told(function() ngx.ctx = 1 end) told(function() ngx.ctx = nil end) tell(ngx.ctx.x) told(function() return ngx.arg[1] end) told(function() ngx.arg[1] = "x" end)
  for _, status in ipairs { "x", {}, -2, -4 } do told(ngx.exit, status) end told(ngx.exit) told(function() ngx.redirect() end) told(function() ngx.redirect(nil) end) told(function() ngx.redirect("/x", "x") end) told(function() ngx.redirect("/x", nil) end)
  told(ngx.redirect, "/x", 304) told(ngx.redirect, "/a\r\nX: y") told(function() ngx.exec() end) told(function() ngx.exec(nil) end) told(ngx.exec, "") told(function() ngx.exec("/x", print) end) told(ngx.exec, "/x", { a = print })
end) end
cases.said_is_sent = function() tell(ngx.headers_sent) tell(ngx.headers_sent) ngx.status = 404 ngx.header["X-Late"] = "1" tell(ngx.status, ngx.header["X-Late"]) told(ngx.redirect, "/x") told(ngx.exec, "/inner") end
cases.printed_nothing_is_sent = function() ngx.print("") ngx.status = 404 tell(ngx.status) end
cases.exit_404 = function() return ngx.exit(404) end
cases.exit_no_status = function() return ngx.exit(101) end
cases.exit_status_kept = function() ngx.status = 403 say("no") return ngx.exit(200) end
cases.exit_status_other = function() ngx.status = 403 return ngx.exit(201) end
cases.exit_said = function() say("x") return ngx.exit(500) end
cases.redirect_number = function() return ngx.redirect(12, "301") end
cases.redirect_relative = function() return ngx.redirect("x?y#z", 308) end
cases.say_arguments = function()
  for _, value in ipairs { { 1, { 2, print } }, print, { a = 1 }, { 1, nil, 3 }, { {}, {} }, {}, { true, ngx.null, 1.5 }, { [1] = "a", [4] = "d" }, { [0] = 1 }, { [1.5] = 1 } } do
    told(function() return (ngx.say(value)) end) told(function() return (ngx.print(value)) end) say()
  end
  told(ngx.say, nil, nil) told(ngx.say, 1e20, 1 / 0, -0.5, 1e14, 2 ^ 53) told(ngx.print)
  for _, value in ipairs { 1, "x", {} } do told(function() return (ngx.flush(value)) end) end told(function() return (ngx.flush(nil)) end) told(ngx.flush, true, 1) told(ngx.eof, 1)
end
cases.log_arguments = function()
  told(function() ngx.log() end) told(function() ngx.log("x") end) told(function() ngx.log(nil, "x") end) told(function() ngx.log(99, "x") end) told(function() ngx.log(-1, "x") end) told(function() ngx.log(ngx.DEBUG) end)
  told(function() ngx.log(ngx.ERR, print) end) told(ngx.log, ngx.DEBUG, nil, true, ngx.null)
end

-- Time and texts
cases.time = function() ngx.update_time() tell(ngx.time() > 1e9, ngx.now() >= ngx.time(), #ngx.today(), #ngx.localtime(), #ngx.utctime()) end
cases.http_time = function() tell(ngx.http_time(0), ngx.parse_http_time("Thu, 18 Nov 2010 11:27:35 GMT"), ngx.parse_http_time("x"), ngx.cookie_time(1290079655)) end
cases.escape_uri = function()
  local all = {}
  for i = 0, 255 do all[i + 1] = string.char(i) end
  all = table.concat(all)
  tell(ngx.escape_uri(all)) tell(ngx.escape_uri(all, 0)) tell(ngx.escape_uri(5), ngx.unescape_uri("a%20b+c%zz%4%"), ngx.unescape_uri("%E4%bd%a0"))
end
cases.encode_args = function()
  tell(ngx.encode_args({ ["a b"] = "x&y" }), ngx.encode_args({ l = { 1, "z" } }), ngx.encode_args({ t = true }), ngx.encode_args({ f = false }), ngx.encode_args({}))
end
cases.encode_args_bad = function() tell((pcall(ngx.encode_args, { a = {{}} }))) tell((pcall(ngx.encode_args, { a = print }))) end
cases.decode_args = function()
  tell(ngx.decode_args("a=1&b=x+y&a=2&c&=d&e=&%41=%42")) tell(ngx.decode_args("a=1&b=2&c=3", 2)) tell(ngx.decode_args(""))
end
cases.base64 = function()
  tell(ngx.encode_base64("hello"), ngx.encode_base64("hello", true), ngx.encode_base64(12), ngx.decode_base64("aGVsbG8="), ngx.decode_base64("aGVsbG8"), ngx.decode_base64("%"), ngx.decode_base64(""))
end
cases.digests = function()
  tell(ngx.md5("hello"), ngx.encode_base64(ngx.md5_bin("x")), ngx.encode_base64(ngx.sha1_bin("x")), ngx.encode_base64(ngx.hmac_sha1("k", "x")), ngx.crc32_long("hello"), ngx.crc32_short("hello"), ngx.md5(5), ngx.md5(nil))
end
cases.quote_sql = function() tell(ngx.quote_sql_str("a'b\\c\n\0\"")) end

cases.escape_arguments = function()
  local all = {} for i = 0, 255 do all[i + 1] = string.char(i) end all = table.concat(all)
  for kind = 0, 6 do tell(ngx.escape_uri(all, kind)) end
  told(ngx.escape_uri) told(ngx.escape_uri, nil) told(ngx.escape_uri, "a b", -1) told(ngx.escape_uri, "a b", 7) told(ngx.escape_uri, "a b", "x") told(ngx.escape_uri, true)
  told(ngx.unescape_uri) for _, text in ipairs { "", 12, "%", "%4", "%41%4", "%g1", "a%", "%%41", "%4g%41", "%u0041", true } do told(ngx.unescape_uri, text) end
end
cases.args_arguments = function()
  told(function() return (ngx.encode_args()) end) told(function() return (ngx.encode_args(nil)) end) told(function() return (ngx.encode_args("x")) end)
  for _, value in ipairs { 1, "", true, { "x", true, false, 1 }, print, { {} }, { print }, 1.5, ngx.null, "b c+%/&=" } do told(function() return (ngx.encode_args({ ["a=&"] = value })) end) end
  told(ngx.encode_args, { "x" }) told(ngx.encode_args, { [true] = 1 }) told(ngx.encode_args, {}, 1)
  told(function() return (ngx.decode_args()) end) told(function() return (ngx.decode_args(nil)) end) told(function() return (ngx.decode_args("a", "x")) end) told(ngx.decode_args, 12)
  for max = -1, 3 do for _, text in ipairs { "a=b&c=d", "a=1&b=2&", "a=1&b=2&&", "=1&b=2&c=3", "a&b" } do told(ngx.decode_args, text, max) end end
  for _, text in ipairs { "a&b&c=&=d&=&&a", "a%20b=c%20d+e&x=y=z", "a=1&a=2&a&a=", "&", "=", "a%3D=%26" } do told(ngx.decode_args, text) end
  for n = 99, 101 do
    local pairs_of, count = {}, 0
    for i = 1, n do pairs_of[i] = "k" .. i .. "=" .. i end
    local args, err = ngx.decode_args(table.concat(pairs_of, "&")) for _ in pairs(args) do count = count + 1 end tell(count, err)
  end
end
cases.base64_arguments = function()
  told(ngx.encode_base64) told(ngx.encode_base64, true) told(ngx.encode_base64, 1.5) told(ngx.encode_base64, "a", 1) told(ngx.encode_base64, "\0\255", false)
  told(ngx.decode_base64) told(ngx.decode_base64, 12) told(ngx.decode_base64, {})
  for _, text in ipairs { "YQ", "YQ=", "YQ==", "Y", "YQ==YQ==", "Y Q==", "YWI\n", "-_8=", "+/8=", "=", "YR==", "YWJj====" } do told(ngx.decode_base64, text) end
  local url = require("ngx.base64") told(url.encode_base64url, "a\255\254") told(url.encode_base64url, 1) told(url.encode_base64url, "a")
  for _, text in ipairs { "Yf_-", "Yf/+", "YQ==", "", "!" } do told(url.decode_base64url, text) end told(url.decode_base64url)
end
cases.digest_arguments = function()
  for _, name in ipairs { "md5", "crc32_long", "crc32_short" } do told(ngx[name]) told(ngx[name], nil) told(ngx[name], "") told(ngx[name], 12) told(ngx[name], false) told(ngx[name], true) end
  told(function() return (ngx.hmac_sha1()) end) told(function() return (ngx.hmac_sha1("k")) end) told(function() return (ngx.hmac_sha1("k", nil)) end) told(function() return (ngx.hmac_sha1({}, "x")) end)
  tell(ngx.encode_base64(ngx.hmac_sha1("", "")), ngx.encode_base64(ngx.hmac_sha1(1, 2)), ngx.encode_base64(ngx.hmac_sha1(("k"):rep(100), "v")))
  told(function() return (ngx.quote_sql_str()) end) told(function() return (ngx.quote_sql_str(nil)) end) told(ngx.quote_sql_str, 12) told(ngx.quote_sql_str, "\26\r\t\b")
end
cases.time_arguments = function()
  for _, name in ipairs { "http_time", "cookie_time" } do for _, value in ipairs { 0, 1.9, -1, "12", 1290079655, 4102444800, true } do told(ngx[name], value) end told(ngx[name]) end
  told(ngx.parse_http_time)
  for _, text in ipairs { "", "Thu, 18 Nov 2010 11:27:35 GMT", "Thursday, 18-Nov-10 11:27:35 GMT", "Thu Nov 18 11:27:35 2010", "Thu Nov  8 11:27:35 2010", "Fri, 18 Nov 2010 11:27:35 GMT", "Thu, 18 Nov 2010 11:27:35",
    12, "Thu, 31 Feb 2010 11:27:35 GMT", "18 Nov 2010 11:27:35 GMT", "Thursday, 18-Nov-71 11:27:35 GMT" } do told(ngx.parse_http_time, text) end
  told(function() ngx.sleep() end) told(function() ngx.sleep(nil) end) told(function() ngx.sleep("x") end) told(ngx.sleep, -1) told(ngx.sleep, "0.001") told(ngx.sleep, 0, 1)
  tell(type(ngx.config.prefix()), type(ngx.config.nginx_configure()), type(ngx.config.nginx_version), type(ngx.config.ngx_lua_version), type(ngx.worker.id()), tostring(ngx.null), ngx.null == nil)
end

-- Regular expressions
cases.re_match = function()
  tell(ngx.re.match("hello, 1234", "([0-9])[0-9]+")) tell(ngx.re.match("hello", "[0-9]")) tell(ngx.re.match("ab", "(a)(x)?(b)")) tell(ngx.re.match("x 12", "(?<word>[a-z]) (?<n>[0-9]+)"))
  tell(ngx.re.match("HELLO", "hello", "ijo")) tell(ngx.re.match("a\nb", "^b", "m")) tell(ngx.re.match("a\nb", "a.b", "s")) tell(ngx.re.match("ab", "a b", "x"))
end
cases.re_match_ctx = function()
  local ctx = { pos = 3 } tell(ngx.re.match("1 2 3", "[0-9]", "", ctx), ctx.pos)
  local m = {} tell(ngx.re.match("abc", "b", "", nil, m) == m, m[0])
  tell(ngx.re.match("xa", "a", "a")) tell(ngx.re.match("你好", ".", "u"))
end
cases.re_match_bad = function() local m, err = ngx.re.match("a", "(") tell(m, err ~= nil) end
cases.re_flags = function()
  for _, flags in ipairs { "i", "s", "m", "x", "jo", "ij", "U", "u", "a", "D", "ab", "z", "" } do told(ngx.re.match, "aB\nb c", "b.(?<n>b)", flags) end
  tell(ngx.re.match("a # b", "a \\# \\ b # all", "x")) tell(ngx.re.match("aab", "a", "a", { pos = 2 })) tell(ngx.re.match("ba", "a", "a"))
end
cases.re_names = function()
  tell(ngx.re.match("xyz", "(?<a>x)(y)(?<b>z)")) tell(ngx.re.match("xyz", "(?P<a>x)(?'b'y)?(?<c>q)?")) tell(ngx.re.match("foo bar", "(?<a>foo)|(?<b>bar)", "D"))
  for _, flags in ipairs { "D", "DJ" } do tell(ngx.re.match("bar", "(?<a>foo)|(?<a>bar)", flags)) tell(ngx.re.match("foobar", "(?<a>foo)(?<a>bar)", flags)) end
  tell(ngx.re.match("abc", "(?<n>x)?b", "", nil, { n = 3, 1, 2, 3 }))
end
cases.re_arguments = function()
  told(ngx.re.match, "abc") told(ngx.re.match) told(ngx.re.match, nil, "nil") told(ngx.re.match, "a", "a", 1) told(ngx.re.match, 123, "2") told(ngx.re.match, "1", 1) told(ngx.re.find, nil, "a") told(ngx.re.gsub, 123, "2", 4)
  for pos = -1, 5 do local ctx = { pos = pos } told(ngx.re.match, "abc", "b?", "", ctx) tell(ctx) told(ngx.re.find, "abc", "c|^", "jo", ctx) tell(ctx) end
  for nth = -1, 3 do told(ngx.re.find, "abc", "(b)(x)?", "", nil, nth) end
  local ctx = { pos = 1 } for _ = 1, 3 do tell(ngx.re.find("abcabc", "c", "jo", ctx)) tell(ctx) end
end
cases.re_malformed = function()
  for _, pattern in ipairs { "(", "a)", "[", "*", "a**", "\\", "(?<n", "[z-a]", "\\1", "(?<1>a)", "a{2,1}", "a{99999}", "(?z)", "(?<a>x)(?<a>y)", "[[:foo:]]", "[:alpha:]", "(a)(?(1)b|c|d)", "\\x{100}",
    "(?#", "^*", "\\b+", "(?<>a)", "\\c", "a{2}{3}", "(?:a", "a|*" } do
    told(ngx.re.match, "a", pattern) told(ngx.re.find, "a", pattern) told(ngx.re.gsub, "a", pattern, "b") told(ngx.re.gmatch, "a", pattern)
  end
  told(ngx.re.match, "a", "\\p{Foo}", "u") told(ngx.re.match, "\255", ".", "u") told(ngx.re.match, "a", "(", "x")
end
cases.re_syntax = function()
  for _, case in ipairs { { "aXbX", "(?|a(X)|b(Y))" }, { "abab", "(?P<n>ab)(?P=n)" }, { "abab", "(ab)\\g1" }, { "abab", "(ab)\\g{-1}" }, { "abab", "(?'n'ab)\\k{n}" }, { "x5 ", "[[:alpha:]][[:digit:][:space:]]+" },
    { "a-b", "[[:^alpha:]]" }, { "a\tb", "a\\hb" }, { "a\tb", "a[\\h]b" }, { "axb", "a\\Hb" }, { "a\r\nb", "a\\Rb" }, { "a\nb", "a\\Nb" }, { "a-b", "a\\Nb" }, { "a\vb", "a\\vb" }, { "a{1", "a{1" }, { "a{,3}", "a{,3}" },
    { "a]b", "[]a]+" }, { "a]", "[a-b-[b]]" }, { "\1A", "\\x{1}\\x41" }, { "A\27", "\\101\\e" }, { "aaa", "a++a" }, { "aaaa", "a{2,}+a" }, { "aaa", "(?>a+)a" }, { "ab", "(a)?(?(1)b|c)" }, { "aB", "(?-i)ab", "i" }, { "AB", "a(?i)b" },
    { "aB", "a(?i)b" }, { "a b", "a[ ]b", "x" }, { "\195\159_1", "\\w+" }, { "\195\159_1", "\\w+", "u" }, { "\217\161", "\\d", "u" }, { "\195\169", "\\pL", "u" }, { "\195\169", "\\p{^Lu}", "u" }, { "\240\159\152\128", "^.$", "u" },
    { "\240\159\152\128", "^[^a]$", "u" }, { "\240\159\152\128", "[\\x{1F600}-\\x{1F64F}]", "u" }, { "\228\189\160", "^\\p{Han}$", "u" }, { "aaa", "(?U)a+" }, { "a\nb\n", "b$" }, { "a\nb\n", "b\\z" }, { "a\nb\n", "b\\Z" },
    { "a\nb", "^b$", "m" }, { "\r\n", "^\\s+$" }, { "ab", "a(?#no)b" }, { "a.b", "\\Qa.\\Eb" }, { "ab", "(?<=a)b(?!c)" }, { "a\\b", "a\\\\b" }, { "\160", "\\h" }, { "\133", "\\s" } } do
    tell(case[2], ngx.re.match(case[1], case[2], case[3] or ""))
  end
end
cases.re_find = function()
  tell(ngx.re.find("hello, 1234", "([0-9])([0-9]+)")) tell(ngx.re.find("hello, 1234", "([0-9])([0-9]+)", "jo", nil, 2)) tell(ngx.re.find("abab", "(b)|(x)", "", nil, 2)) tell(ngx.re.find("x", "y"))
  tell(ngx.re.find("abcabc", "a(b)c(?=a)|c(a)(b)", "", { pos = 3 }, 3)) tell(ngx.re.find("aab", "a(a)b", "", nil, 1))
end
cases.re_gmatch = function()
  for m in ngx.re.gmatch("a1 b2", "([a-z])([0-9])", "jo") do tell(m) end
  for m in ngx.re.gmatch("ab", "x*") do tell(m) end
end
cases.re_sub = function()
  tell(ngx.re.sub("hello, 1234", "([0-9])[0-9]", "[$0][$1]")) tell(ngx.re.sub("hello", "x", "y")) tell(ngx.re.sub("a", "a", "$$1")) tell(ngx.re.sub("ab", "(a)", "${1}00"))
  tell(ngx.re.sub("a", "a", function(m) return m[0] .. "!" end))
end
cases.re_gsub = function()
  tell(ngx.re.gsub("hello, world", "([a-z])[a-z]+", "[$0,$1]", "i")) tell(ngx.re.gsub("abc", "", "-")) tell(ngx.re.gsub("abc", "x*", "-")) tell(ngx.re.gsub("aaa", "a", function(m) return m[0]:upper() end))
end
cases.re_replacements = function()
  for _, with in ipairs { "[$0]", "[$1]", "[${1}]", "[$2]", "[$$]", "[$$1]", "[$]", "[$x]", "$", "[$n]", "[${n}]", "[${1]", "[$10]", "[${1}0]", "[$1a]", "%0", "\\0", 12, true, "" } do
    told(ngx.re.sub, "abc", "(?<n>b)(x)?", with) told(ngx.re.gsub, "abcb", "(?<n>b)(x)?", with, "jo")
  end
  told(ngx.re.sub, "abc", "b", nil)
  for _, value in ipairs { 12, "$0", false, "" } do told(ngx.re.gsub, "abcb", "b", function() return value end) end
  told(ngx.re.sub, "abc", "b", function() end) told(ngx.re.gsub, "abc", "(?<n>b)", function(m) return show(m) end)
  for _, case in ipairs { { "abc", "" }, { "", "" }, { "", "x" }, { "abcb", "b|" }, { "abc", "^" }, { "a\nb", "^", "m" }, { "abc", "$" }, { "aab", "a", "a" }, { "abc", "x*" }, { "aaa", "a?" } } do
    told(ngx.re.gsub, case[1], case[2], "-", case[3] or "")
    for m in ngx.re.gmatch(case[1], case[2], case[3] or "") do tell(m) end
  end
  local next_match = ngx.re.gmatch("a,b", "[a-z]") for _ = 1, 4 do tell(next_match()) end
end
cases.re_pcre = function()
  tell(ngx.re.match("foobar", "foo(?=bar)")) tell(ngx.re.match("abab", "(?:(a)b)\\1")) tell(ngx.re.match("a.b", "\\Qa.b\\E")) tell(ngx.re.match("x1", "\\h*x\\d"))
end
cases.re_split = function() tell(require("ngx.re").split("a,b,c", ",")) tell(require("ngx.re").split("abc", "")) tell(require("ngx.re").split("a1b2", "([0-9])")) tell(require("ngx.re").split("a,b,c", ",", nil, nil, 2)) end
cases.re_split_more = function()
  local split = require("ngx.re").split
  told(split, "a,b,,c,,", ",") told(split, "a,b,c", ",", nil, { pos = 3 }) told(split, "a,b,c", ",", nil, { pos = 3 }, 1) told(split, "a,b,c", ",", nil, nil, 2, { 9, 9, 9, 9, 9 }) told(split, "", ",") told(split, "a b  c", "\\s+")
  told(split, "abc", "(") told(split, "a1b2c", "(\\d)", nil, nil, 2) told(split, "a,b", ",", nil, nil, -1) told(split, "abcd", "b", nil, { pos = 9 }) told(split, ",a", ",")
end

-- JSON: beside Debian's lua-cjson. OpenResty's, which Sluice follows, has other words for NaN and for nesting, and more settings
cases.cjson_encode = function()
  local json = require("cjson")
  told(json.encode, nil) told(function() return (json.encode()) end) told(function() return (json.encode(1, 2)) end)
  for _, value in ipairs { ngx.null, "x", true, false, {}, { 1, 2 }, { a = 1 }, { 1, nil, 3 }, { [1] = 1, [11] = 2 }, { [1] = 1, [21] = 2 }, { [12] = 1 }, { [0] = 1 }, { [1.5] = 1 }, { [-1] = 1 }, { { {} } }, print, { print },
    { a = print }, { [true] = 1 }, { [{}] = 1 }, { [1] = { a = { "b" } } }, "a\"\\/\b\f\n\r\t\0\1\31\127\195\169\255", { ["k\"\n"] = "v/" } } do told(json.encode, value) end
  for _, number in ipairs { 0, -0, 1, 1.5, 1e14, 1e15, 1e16, 123456789012345, 1234567890123456, 0.1, 1 / 3, 1e-5, 1e100, -1e-300, 2 ^ 53, 2 ^ 63, 1e20, 3.14159265358979 } do told(json.encode, number) tell(number) end
  local deep = {} for _ = 1, 999 do deep = { deep } end tell(#json.encode(deep))
end
cases.cjson_decode = function()
  local json = require("cjson")
  told(function() return (json.decode()) end) told(function() return (json.decode(nil)) end) told(json.decode, 12)
  for _, text in ipairs { "null", "true", "1", "-1.5e3", "\"x\"", "[]", "{}", "[null]", "{\"a\":null,\"b\":[1,{\"c\":2}]}", "\"\\u4f60\\ud83d\\ude00\\n\\/\"", "\"\\u0000\"", " [ 1 , 2 ] ", "{\"a\":1,\"a\":2}", "{\"1\":1}",
    "", " ", "{", "[", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "nul", "tru", "[1 2]", "1 2", "\"abc", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud83d\\u0041\"", "'a'", "[1]x", "\"a\nb\"", "\"\255\"",
    "[1]\0x", "\0[", "[\0", "01", "-01", "+1", ".5", "1.", "1e", "0x10", "-0x1f", "NaN", "nan", "Infinity", "-Infinity", "inf", "1e400", "-0", "1E5", "12345678901234567890", "-", "1-1", "0x", "1.5.5", "--1", "tRue" } do
    told(json.decode, text)
  end
  for depth = 999, 1001 do told(function() return type(json.decode(("["):rep(depth) .. ("]"):rep(depth))) end) end
end
cases.cjson_safe = function()
  local json = require("cjson.safe").new()
  for _, value in ipairs { print, { print }, { 1 }, "a/b" } do tell(json.encode(value)) end tell(json.encode(nil))
  for _, text in ipairs { "{", "", "[1]", "null", 12, {}, true } do tell(json.decode(text)) end tell(json.decode(nil)) told(function() return (json.decode()) end) told(function() return (json.encode()) end)
end
cases.cjson_settings = function()
  local json = require("cjson").new()
  local function call(f, value) told(function() return f(value) end) end
  tell(json.encode_sparse_array()) tell(json.encode_sparse_array(true)) call(json.encode, { [1] = 1, [100] = 2 }) tell(json.encode_sparse_array(false, 3, 2)) call(json.encode, { [1] = 1, [3] = 2 })
  call(json.encode, { [1] = 1, [8] = 2 }) tell(json.encode_sparse_array("on")) tell(json.encode_sparse_array(nil, 0)) call(json.encode, { [1] = 1, [30] = 2 })
  told(function() json.encode_sparse_array("x") end) told(function() json.encode_sparse_array(true, -1) end) told(function() json.encode_sparse_array(true, "x") end) told(function() json.encode_sparse_array(1, 2, 3, 4) end)
  tell(json.encode_max_depth()) tell(json.encode_max_depth(2)) call(json.encode, { { 1 } }) told(function() json.encode_max_depth(0) end) told(function() json.encode_max_depth("x") end)
  tell(json.decode_max_depth()) tell(json.decode_max_depth(2)) call(json.decode, "[[1]]") call(json.decode, "[[[1]]]") call(json.decode, "{\"a\":{\"b\":{}}}") told(function() json.decode_max_depth(0) end)
  tell(json.encode_number_precision()) tell(json.encode_number_precision(3)) for _, number in ipairs { 3.14159, 1234, 100, 0.00001234, 1e100 } do call(json.encode, number) end
  tell(json.encode_number_precision(1)) call(json.encode, 25) tell(json.encode_number_precision("14")) call(json.encode, 1 / 3)
  tell(json.encode_invalid_numbers()) tell(json.encode_invalid_numbers("null")) call(json.encode, { 1 / 0, 0 / 0 }) tell(json.encode_invalid_numbers(true)) tell(json.encode_invalid_numbers("off")) told(function() json.encode_invalid_numbers("x") end)
  tell(json.decode_invalid_numbers()) tell(json.decode_invalid_numbers(false)) for _, text in ipairs { "NaN", "Infinity", "-inf", "0x10", "01", "+1", "-01", "1", "-1.5", "0", "0.5" } do call(json.decode, text) end
  tell(json.decode_invalid_numbers(true)) call(json.decode, "0x10") tell(json.encode_keep_buffer()) tell(json.encode_keep_buffer(false)) told(function() json.encode_keep_buffer({}) end)
  json.encode_number_precision(3) tell(json.encode(1 / 3), require("cjson").encode(1 / 3), json.new().encode(1 / 3)) tell(json._NAME, type(json._VERSION), json.null == ngx.null)
end

-- Shared dictionaries
cases.dict = function()
  local d = ngx.shared.d
  d:flush_all()
  tell(d:get("a")) tell(d:set("a", 1)) tell(d:get("a")) tell(d:set("b", "x", 0, 7)) tell(d:get("b")) tell(d:add("a", 2)) tell(d:add("c", true)) tell(d:get("c"))
  tell(d:replace("zz", 1)) tell(d:replace("a", 5)) tell(d:incr("a", 2)) tell(d:incr("none", 1)) tell(d:incr("n", 1, 10)) tell(d:incr("b", 1)) tell(d:delete("a")) tell(d:get("a"))
end
cases.dict_bad = function() local d = ngx.shared.d tell(d:set(nil, 1)) tell(d:get("")) tell(d:set("", 1)) tell(ngx.shared.d == d) tell(pcall(d.set, d, "t", {})) end
cases.dict_list = function()
  local d = ngx.shared.d
  d:flush_all() d:flush_expired()
  tell(d:lpush("l", "a")) tell(d:rpush("l", 2)) tell(d:llen("l")) tell(d:lpop("l")) tell(d:rpop("l")) tell(d:lpop("l")) tell(d:llen("l")) d:set("s", 1) tell(d:lpush("s", 1)) tell(d:get("s"))
end
cases.dict_expire = function()
  local d = ngx.shared.d
  d:flush_all() d:flush_expired()
  d:set("a", 1, 100) local t = d:ttl("a") tell(t > 90 and t <= 100) tell(d:ttl("no")) tell(d:expire("a", 5)) tell(d:expire("no", 5)) d:set("e", 1) tell(d:ttl("e"))
  tell(#d:get_keys(0)) tell(type(d:capacity()), type(d:free_space())) d:set("q", 1, 0.01) ngx.sleep(0.03) tell(d:get("q")) local v, f, s = d:get_stale("q") tell(v, s)
end

local function emptied() local d = ngx.shared.d d:flush_all() d:flush_expired() return d end
cases.dict_keys = function()
  local d = emptied()
  for _, name in ipairs { "get", "get_stale", "set", "safe_set", "add", "safe_add", "replace", "delete", "incr", "ttl", "expire", "lpush", "rpush", "lpop", "rpop", "llen" } do
    local value = not (name:find("pop") or name == "llen") and { 1 } or {}
    for _, key in ipairs { "", ("x"):rep(65536), name .. 1, 12 } do tell(name) told(d[name], d, key, unpack(value)) end
    told(d[name], d, nil, unpack(value)) told(d[name], d) told(d[name], nil, "x") told(d[name], {}, "x")
  end
  d:set(1.5, "n") tell(d:get("1.5")) d:set(true, 1) tell(d:get("true")) d:set("b\0in", "v\0w") tell(d:get("b\0in")) tell(#d:get_keys())
end
cases.dict_store = function()
  for _, name in ipairs { "set", "safe_set", "add", "safe_add", "replace" } do
    local d = emptied()
    local function call(...) told(d[name], d, ...) tell(d:get("a")) end
    call("a", 1, -1) call("a", 1, "x") call("a", 1) call("a", 2, 0, 5) call("a", 2.7, nil, nil) call("a", "s", 100, 1.7) call("a", false) call("a", print) call("a", {}) call("a", ngx.null) call("a", 1 / 0) call("a", nil) call("a") call("new", "x")
  end
end
cases.dict_incr = function()
  local d = emptied()
  for _, arguments in ipairs { { "n" }, { "n", 1 }, { "n", "x" }, { "n", 1, "x" }, { "n", 1, 5 }, { "n", 1, 5, 100 }, { "n", -3 }, { "n", 1.5 }, { "n", "2" }, { "n", 1, 0, -1 }, { "n", 1, 5, "x" }, { "m", 1, "3" } } do
    told(d.incr, d, unpack(arguments))
  end
  told(d.incr, d, "n", 1, nil, 5) d:set("s", "x") told(d.incr, d, "s", 1) told(d.incr, d, "s", 1, 0) d:rpush("l", 1) told(d.incr, d, "l", 1, 2)
  told(d.incr, d, "t", 1, 0, 0.02) tell(d:ttl("t") > 0) ngx.sleep(0.04) tell(d:get("t")) told(d.incr, d, "t", 1) told(d.incr, d, "t", 1, 9) tell(d:ttl("t"))
end
cases.dict_lists = function()
  local d = emptied()
  for _, name in ipairs { "lpush", "rpush" } do for _, value in ipairs { true, {}, "v", 1.5 } do told(d[name], d, "k", value) end told(d[name], d, "k", nil) told(d[name], d, "k") end
  tell(d:llen("k")) for _, name in ipairs { "lpop", "rpop", "lpop", "rpop", "rpop" } do told(d[name], d, "k") end tell(d:llen("k"))
  d:set("s", 1) told(d.lpop, d, "s") told(d.llen, d, "s") told(d.rpush, d, "s", 1)
  d:rpush("k", 1) told(d.get, d, "k") told(d.get_stale, d, "k") told(d.add, d, "k", 1) told(d.replace, d, "k", 1) told(d.get, d, "k") d:rpush("k2", 1) told(d.set, d, "k2", 2) d:rpush("k3", 1) told(d.delete, d, "k3") tell(d:llen("k3"))
  d:rpush("k4", 1) told(d.expire, d, "k4", 100) tell(d:rpush("k4", 2)) tell(d:ttl("k4") > 90) d:expire("k4", 0.01) ngx.sleep(0.03) tell(d:llen("k4")) tell(d:rpush("k4", 1)) tell(d:ttl("k4"))
end
cases.dict_times = function()
  local d = emptied()
  told(d.expire, d, "a") told(d.expire, d, "a", "x") told(d.expire, d, "a", 1) told(d.ttl, d, "a") d:set("a", 1, 100) told(d.expire, d, "a", 0) tell(d:ttl("a")) told(d.expire, d, "a", "5") tell(d:ttl("a") > 4)
  d:set("f", 1, 0, 7) tell(d:get_stale("f")) tell(d:get("f")) tell(d:get_stale("none")) told(d.flush_all, d) tell(d:get("f")) told(d.flush_expired, d) told(function() return (d:flush_expired("x")) end) told(d.flush_expired, d, 1, 2)
  for i = 1, 5 do d:set("k" .. i, 1, i < 4 and 0.01 or 0) end ngx.sleep(0.03) tell(#d:get_keys())
  d = emptied() for i = 1, 5 do d:set("k" .. i, 1) end tell(#d:get_keys(1), #d:get_keys(-1), #d:get_keys(0), #d:get_keys()) told(function() return (d:get_keys("x")) end) told(d.get_keys, d, 1, 2)
  told(d.capacity, 1) told(d.free_space) tell(d:free_space() < d:capacity())
end

-- Sockets
local function dial() local sock = ngx.socket.tcp() sock:settimeout(3000) local ok, err = sock:connect("127.0.0.1", tonumber(ngx.var.arg_tcp)) return sock, ok, err end
cases.tcp = function() local s, ok, err = dial() tell(ok, err) tell(s:send("abc\r\ndef\nrest")) tell(s:receive()) tell(s:receive("*l")) tell(s:receive(2)) tell(s:receive(2)) tell(s:close()) tell(s:close()) tell(s:receive()) end
cases.tcp_all = function() local s = dial() s:send({ "one ", { "two ", 3 } }) s:send("quit") tell(s:receive("*a")) tell(s:receive("*a")) end
cases.tcp_any = function() local s = dial() s:send("hello") tell(s:receive(1)) tell(s:receiveany(2)) tell(s:receiveany(100)) s:close() end
cases.tcp_until = function()
  local s = dial() s:send("one--two--three=four=end")
  local read = s:receiveuntil("--") tell(read()) tell(read()) local inclusive = s:receiveuntil("=", { inclusive = true }) tell(inclusive())
  local parts = s:receiveuntil("=") tell(parts(2)) tell(parts(2)) tell(parts(2)) tell(parts(2)) tell(s:receive(3)) s:close()
end
cases.tcp_until_closed = function() local s = dial() s:send("abcquit") local read = s:receiveuntil("=") tell(read()) tell(read()) end
cases.tcp_closed = function() local s = dial() s:send("abcquit") tell(s:receive(10)) tell(s:receive(1)) end
cases.tcp_line_closed = function() local s = dial() s:send("abcquit") tell(s:receive("*l")) end
cases.tcp_timeout = function() local s = dial() s:settimeout(30) s:send("ab") tell(s:receive(5)) tell(s:receive("*l")) s:close() end
cases.tcp_keepalive = function()
  local s = dial() tell(s:getreusedtimes()) s:send("x") s:receive(1) tell(s:setkeepalive(1000, 5)) tell(s:send("x"))
  local again = dial() tell(again:getreusedtimes()) again:close()
end
cases.tcp_refused = function() local s = ngx.socket.tcp() tell(s:connect("127.0.0.1", 1)) tell(s:connect("unix:/nowhere/at.all")) tell(s:send("x")) end
cases.tcp_bad = function()
  local s = ngx.socket.tcp() tell((pcall(s.connect, s))) tell((pcall(s.receive, s, "*z"))) tell((pcall(s.receive, s, -1))) tell(s:receive()) tell(s:close()) tell(s:setkeepalive()) tell(s:getreusedtimes())
end
cases.tcp_timeouts_bad = function()
  local s = ngx.socket.tcp()
  for _, ms in ipairs { -1, 1e300, 2 ^ 31, 0 / 0 } do tell((pcall(s.settimeout, s, ms))) tell((pcall(s.settimeouts, s, 1, ms, 1))) end
  tell((pcall(s.settimeout, s, 0))) tell((pcall(s.settimeout, s, 2 ^ 31 - 1)))
end
-- Methods called as methods, so that errors name them
local CALLS = {
  connect = function(s, ...) local a, b = s:connect(...) return a, b end, send = function(s, ...) local a, b = s:send(...) return a, b end, receive = function(s, ...) local a, b, c = s:receive(...) return a, b, c end,
  receiveany = function(s, ...) local a, b, c = s:receiveany(...) return a, b, c end, receiveuntil = function(s, ...) local a, b = s:receiveuntil(...) return type(a), b end,
  settimeout = function(s, ...) s:settimeout(...) end, settimeouts = function(s, ...) s:settimeouts(...) end, setkeepalive = function(s, ...) local a, b = s:setkeepalive(...) return a, b end,
  setpeername = function(s, ...) local a, b = s:setpeername(...) return a, b end, close = function(s, ...) local a, b = s:close(...) return a, b end,
}
local function call(s, name, ...) told(CALLS[name], s, ...) end
cases.tcp_connect_arguments = function()
  local s, port = ngx.socket.tcp(), tonumber(ngx.var.arg_tcp)
  told(s.connect) call(s, "connect") call(s, "connect", nil, 80) call(s, "connect", "127.0.0.1") for _, bad in ipairs { "x", -1, 65536, {} } do call(s, "connect", "127.0.0.1", bad) end call(s, "connect", "", 80) call(s, "connect", "unix:")
  call(s, "connect", "127.0.0.1", port) call(s, "connect", "127.0.0.1", tostring(port)) tell(s:getreusedtimes())
  for _, options in ipairs { { pool = {} }, { pool_size = "x" }, { pool_size = 0 }, { backlog = -1 }, { backlog = "x" }, { pool = 1, pool_size = 2 }, {} } do call(s, "connect", "127.0.0.1", port, options) end
  call(s, "connect", "127.0.0.1", port, nil, 5) call(s, "close") call(s, "close", 1) told(ngx.socket.tcp, 1) told(ngx.socket.udp, 1) tell(ngx.socket.connect("127.0.0.1", 1)) told(ngx.socket.connect)
end
cases.tcp_timeout_arguments = function()
  local s = ngx.socket.tcp() told(s.settimeout) for _, value in ipairs { "x", -1, 1000, "5", 1e15 } do call(s, "settimeout", value) call(s, "settimeouts", 1, value, 3) end call(s, "settimeout") call(s, "settimeout", nil) call(s, "settimeouts", 1, 2)
  call(s, "settimeouts", nil, nil, nil)
end
cases.tcp_options = function()
  local s = ngx.socket.tcp() told(s.setoption, s, "keepalive", true) told(s.getoption, s, "keepalive") s:connect("127.0.0.1", tonumber(ngx.var.arg_tcp))
  for _, option in ipairs { "keepalive", "reuseaddr", "tcp-nodelay", "sndbuf", "rcvbuf" } do
    for _, value in ipairs { 70000, 1, true } do told(s.setoption, s, option, value) end if not option:find("buf") then told(s.getoption, s, option) told(s.setoption, s, option, false) told(s.getoption, s, option) end
    told(s.setoption, s, option) told(s.setoption, s, option, nil) told(s.setoption, s, option, "x")
  end
  told(s.setoption, s, "foo", 1) told(s.getoption, s, "foo") told(s.getoption, s) told(s.setoption, s)
end
cases.tcp_send_arguments = function()
  local s = ngx.socket.tcp() told(s.send) call(s, "send") call(s, "send", "x") s = dial() call(s, "send") call(s, "send", nil) call(s, "send", "a", "b")
  for _, value in ipairs { true, 12, 1.5, "", {}, { 1, { 2 }, "x" }, { true }, { 1, nil, 2 }, { a = 1 }, { print }, print, ngx.null } do call(s, "send", value) end s:close()
end
cases.tcp_receive_arguments = function()
  local s = dial() s:settimeout(50) s:send("abcdefgh")
  for _, what in ipairs { 0, "2", "x", "*x", true, {}, 1.7, -1 } do call(s, "receive", what) end call(s, "receive", nil) call(s, "receive", 1, 2) told(s.receive)
  for _, max in ipairs { 0, -1, "x", "2", {}, 100, 100 } do call(s, "receiveany", max) end call(s, "receiveany") call(s, "receiveany", nil) s:close()
end
cases.tcp_until_arguments = function()
  local s = ngx.socket.tcp() call(s, "receiveuntil", "x") s = dial() s:settimeout(5000) call(s, "receiveuntil") for _, pattern in ipairs { "", {}, 12 } do call(s, "receiveuntil", pattern) end call(s, "receiveuntil", nil)
  call(s, "receiveuntil", "a", { inclusive = "x" }) call(s, "receiveuntil", "a", "x") local read = s:receiveuntil("--") s:send("ab--cd") told(read, "x") told(read, -1) told(read, 0) told(read, 1)
  s:send("aab|") read = s:receiveuntil("ab", { inclusive = true }) tell(read(1)) tell(read(1)) tell(read(1)) tell(s:receive(1)) s:send("aababc|--------=|") tell(s:receiveuntil("abc")()) tell(s:receive(1)) tell(s:receiveuntil("---=")()) tell(s:receive(1)) s:close()
end
cases.tcp_keepalive_arguments = function()
  local function kept(...) local s = ngx.socket.tcp() s:connect("127.0.0.1", tonumber(ngx.var.arg_tcp), { pool = "arguments" }) call(s, "setkeepalive", ...) s:close() end
  kept("x") kept(-1) kept(nil, nil) kept(1000, 10, 1)
  local s = dial() s:send("abc") tell(s:receive(1)) tell(s:setkeepalive(100)) tell(s:close()) tell(s:receive(1))
  s = ngx.socket.tcp() s:connect("127.0.0.1", tonumber(ngx.var.arg_tcp), { pool = "own" }) tell(s:getreusedtimes()) tell(s:setkeepalive(10000, 10)) s = ngx.socket.tcp() s:connect("127.0.0.1", tonumber(ngx.var.arg_tcp), { pool = "own" })
  tell(s:getreusedtimes()) s:send("x") tell(s:receive(1)) tell(s:setkeepalive(10000, 10)) s = ngx.socket.tcp() s:connect("127.0.0.1", tonumber(ngx.var.arg_tcp), { pool = "own" }) tell(s:getreusedtimes()) s:close()
end
cases.tcp_busy = function()
  local s = dial() s:settimeout(500) local t = ngx.thread.spawn(function() return s:receive(1) end) tell(s:receive(1)) s:send("xy") tell(ngx.thread.wait(t)) s:close()
end
cases.udp_arguments = function()
  local u = ngx.socket.udp() told(u.setpeername) call(u, "setpeername") call(u, "setpeername", "127.0.0.1", "x") call(u, "setpeername", "127.0.0.1", 65536) u = ngx.socket.udp() tell(u:send("x")) tell(u:receive()) tell(u:close()) told(u.settimeout, u)
  u:settimeout(3000) u:setpeername("127.0.0.1", tonumber(ngx.var.arg_udp)) call(u, "send") for _, value in ipairs { { a = 1 }, print, { true } } do call(u, "send", value) end
  tell(u:send({ 1, { 2, "x" } })) tell(u:receive()) tell(u:send(12)) tell(u:receive(1)) call(u, "receive", "x") tell(u:close()) tell(u:close()) tell(u:receive())
end
cases.tcp_zero = function() local s = dial() tell(s:receive(0)) tell(s:send("")) s:close() end
cases.udp = function() local u = ngx.socket.udp() u:settimeout(2000) tell(u:setpeername("127.0.0.1", tonumber(ngx.var.arg_udp))) tell(u:send("ping")) tell(u:receive()) tell(u:close()) tell(u:send("x")) end

-- Threads, semaphores, timers, coroutines
cases.thread = function()
  local t = ngx.thread.spawn(function(a) ngx.sleep(0.005) return a, "b" end, "a") tell(ngx.thread.wait(t)) tell(type(t), coroutine.status(t))
  local bad = ngx.thread.spawn(function() error("oops", 0) end) tell(ngx.thread.wait(bad))
end
cases.thread_error_object = function()
  local object = {} local ok, err = ngx.thread.wait(ngx.thread.spawn(function() ngx.sleep(0) error(object) end)) tell(ok, err == object)
  tell(ngx.thread.wait(ngx.thread.spawn(function() error() end)))
end
cases.thread_bad = function()
  local function told(...) local ok, err = pcall(function(...) ngx.thread.wait(...) end, ...) tell(ok, (tostring(err):gsub("^[^ ]+:%d+: ", ""))) end
  told(coroutine.create(function() end)) told(1) told()
  local t = ngx.thread.spawn(function() return 1 end) tell(ngx.thread.wait(t)) tell(pcall(ngx.thread.wait, t)) tell(ngx.thread.kill(t))
end
cases.on_abort = function() tell(ngx.on_abort(function() end)) end
cases.thread_order = function() ngx.thread.spawn(function() say("in") ngx.sleep(0.005) say("later") end) say("out") end
cases.thread_first = function()
  local slow = ngx.thread.spawn(function() ngx.sleep(0.2) return "slow" end) local fast = ngx.thread.spawn(function() return "fast" end) tell(ngx.thread.wait(slow, fast)) tell(ngx.thread.wait(slow))
end
cases.thread_kill = function() local t = ngx.thread.spawn(function() ngx.sleep(30) end) tell(ngx.thread.kill(t)) tell((ngx.thread.kill(t))) end
cases.semaphore = function()
  local sema = require("ngx.semaphore").new(1) tell(sema:count()) tell(sema:wait(0)) tell(sema:wait(0)) tell(sema:wait(0.01)) tell(sema:post(2)) tell(sema:count())
  local other = require("ngx.semaphore").new() ngx.thread.spawn(function() ngx.sleep(0.005) other:post() end) tell(other:wait(2))
end
cases.timer = function()
  local done = require("ngx.semaphore").new() tell(ngx.timer.at(0, function(premature, a) ngx.shared.d:set("timer", tostring(premature) .. a .. ngx.get_phase()) done:post() end, "x")) tell(done:wait(2)) tell((ngx.shared.d:get("timer")))
  tell(type(ngx.timer.running_count()), type(ngx.timer.pending_count()))
end
cases.coroutine = function()
  local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) ngx.sleep(0.001) error("e" .. b, 0) end)
  tell(coroutine.resume(co, 1)) tell(coroutine.status(co)) tell(coroutine.resume(co, 2)) tell(coroutine.status(co)) tell(coroutine.resume(co))
end
cases.sleep = function() tell(ngx.sleep(0)) tell(ngx.sleep(0.001)) end

cases.thread_arguments = function()
  told(function() local t = ngx.thread.spawn() end) told(function() local t = ngx.thread.spawn("x") end) told(ngx.thread.wait) told(function() local t = ngx.thread.wait(nil) end) told(function() local t = ngx.thread.kill() end)
  told(ngx.thread.kill, coroutine.create(function() end)) told(ngx.thread.kill, coroutine.running())
  local t = ngx.thread.spawn(function(...) return select("#", ...), ... end, nil, 2, nil) tell(ngx.thread.wait(t)) tell(ngx.thread.wait(ngx.thread.spawn(function() end))) tell(ngx.thread.kill(ngx.thread.spawn(function() end)))
  local a, b = ngx.thread.spawn(function() ngx.sleep(0.02) return "a" end), ngx.thread.spawn(function() ngx.sleep(0.001) error("b", 0) end) tell(ngx.thread.wait(a, b)) tell(ngx.thread.wait(a)) tell(coroutine.status(a), coroutine.status(b))
end
cases.thread_family = function()
  local t = ngx.thread.spawn(function() local inner = ngx.thread.spawn(function() ngx.sleep(0.001) return "inner" end) return select(2, ngx.thread.wait(inner)) end) tell(ngx.thread.wait(t))
  t = ngx.thread.spawn(function() ngx.sleep(0.001) told(ngx.thread.wait, t) return 1 end) tell(ngx.thread.wait(t))
  local parent, sibling = coroutine.running(), ngx.thread.spawn(function() ngx.sleep(0.01) end)
  t = ngx.thread.spawn(function() told(ngx.thread.kill, parent) told(ngx.thread.wait, parent) told(ngx.thread.kill, sibling) end) ngx.thread.wait(t) ngx.thread.wait(sibling)
  t = ngx.thread.spawn(function() coroutine.yield() return "after yield" end) tell(coroutine.status(t)) tell(ngx.thread.wait(t))
  t = ngx.thread.spawn(function() local co = coroutine.wrap(function() ngx.sleep(0.001) coroutine.yield("y") return "z" end) return co(), co() end) tell(ngx.thread.wait(t))
  t = ngx.thread.spawn(function() ngx.sleep(0.001) end) told(coroutine.resume, t) tell(ngx.thread.wait(t)) tell(coroutine.status(t)) told(coroutine.resume, t)
end
-- What ends a thread's request ends what waits in it
cases.thread_exit = function() ngx.thread.spawn(function() ngx.exit(204) end) ngx.sleep(30) say("never") end
cases.thread_exit_later = function() ngx.thread.spawn(function() ngx.sleep(0.005) say("late") ngx.exit(200) end) say("first") ngx.thread.wait(ngx.thread.spawn(function() ngx.sleep(30) say("never") end)) say("never") end
cases.thread_exit_at_the_end = function() ngx.thread.spawn(function() ngx.sleep(30) end) ngx.thread.spawn(function() ngx.sleep(0.005) ngx.exit(403) end) end
cases.thread_exit_semaphore = function() ngx.thread.spawn(function() ngx.sleep(0.005) ngx.exit(404) end) require("ngx.semaphore").new():wait(30) say("never") end
cases.thread_redirect = function() ngx.thread.spawn(function() ngx.sleep(0.005) ngx.redirect("/x") end) ngx.sleep(30) end
cases.thread_exec = function() ngx.thread.spawn(function() ngx.sleep(0.005) ngx.exec("/inner", "a=1") end) ngx.sleep(30) end
cases.semaphore_arguments = function()
  local semaphores = require("ngx.semaphore") told(semaphores.new, -1) for _, n in ipairs { "2", "x", 1.5, {} } do tell(semaphores.new(n):count()) end tell(semaphores.new(nil):count())
  local s = semaphores.new(2) told(s.post) told(s.wait) told(s.count) told(s.count, {}) for _, n in ipairs { 0, -1, "x", "2" } do told(s.post, s, n) end tell(s:count()) for _, seconds in ipairs { -1, "x", "0.001", 0 } do told(s.wait, s, seconds) end told(s.wait, s)
  s = semaphores.new() local t = ngx.thread.spawn(function() return s:wait(1) end) tell(s:count()) s:post(1) tell(ngx.thread.wait(t)) tell(s:count()) tell(s:wait(0.001)) tell(s:wait(0))
end
cases.timer_arguments = function()
  for _, start in ipairs { function(...) local a, b = ngx.timer.at(...) return a, b end, function(...) local a, b = ngx.timer.every(...) return a, b end } do
    local function set(...) told(start, ...) end
    set() set(0) set("x", function() end) set(1, "x") set(1, nil) set(nil, function() end) set("0.001", function(premature) return premature end)
  end
  told(ngx.timer.every, 0, function() end) told(ngx.timer.every, 0.0001, function() end)
  local d, done = ngx.shared.d, require("ngx.semaphore").new() d:set("n", 0) ngx.timer.every(0.005, function(premature, a, b) if d:incr("n", 1) == 3 then d:set("args", tostring(premature) .. a .. tostring(b)) done:post() end end, "x", nil) tell(done:wait(5)) tell(d:get("args"))
end
cases.coroutine_arguments = function()
  local co = coroutine.wrap(function() return 1 end) tell(co()) told(function() local a = coroutine.resume(nil) end) told(function() local a = coroutine.create(nil) end)
  co = coroutine.create(function(...) tell(...) tell(coroutine.status(coroutine.running())) local a = coroutine.yield(1, nil) tell(a) return "end" end)
  tell(coroutine.resume(co, "a", nil)) tell(coroutine.status(co)) tell(coroutine.resume(co, "b")) tell(coroutine.resume(co)) tell(coroutine.status(co), coroutine.status(coroutine.running()))
  local outer outer = coroutine.create(function() told(coroutine.resume, outer) local inner = coroutine.create(function() return coroutine.status(outer) end) tell(coroutine.resume(inner)) end) tell(coroutine.resume(outer))
end
cases.var_set = function()
  tell(ngx.var.args ~= nil, ngx.var.query_string ~= nil) ngx.var.args = nil tell(ngx.var.args, ngx.var.is_args) ngx.var.args = 12 tell(ngx.var.args) ngx.var.args = "" tell(ngx.var.args)
  ngx.var.custom = "d" tell(ngx.var.custom) ngx.var.custom = nil tell(ngx.var.custom) ngx.var.custom = 12 tell(ngx.var.custom) ngx.var.custom = "" tell(ngx.var.custom)
  for _, name in ipairs { "uri", "request_method", "remote_addr", "http_x", "arg_x", "cookie_x", "host", "status", "request_uri", "scheme", "upstream_addr", "sent_http_x", "request_time" } do told(function() ngx.var[name] = "x" end) told(function() ngx.var[name] = nil end) end
  told(function() ngx.var[1] = "x" end) told(function() return ngx.var[1] end) told(function() return ngx.var[true] end) told(function() return ngx.var[{}] end) told(function() return ngx.var[""] end)
end

-- What a phase cannot do: what each call says in it, noted for a case that may print.
local pool = {}
local function try(f)
  local ok, err = pcall(f)
  return tostring(ok) .. " " .. (ok and show(err) or tostring(err):gsub("^[^ ]+:%d+: ", ""))
end
local calls = {
  { "sleep", function() ngx.sleep(0) end }, { "say", function() ngx.say("x") end }, { "print", function() ngx.print("x") end }, { "flush", function() ngx.flush(true) end },
  { "eof", function() ngx.eof() end }, { "send_headers", function() ngx.send_headers() end }, { "read_body", function() ngx.req.read_body() end },
  { "discard_body", function() ngx.req.discard_body() end }, { "req.socket", function() ngx.req.socket() end }, { "tcp", function() ngx.socket.tcp() end },
  { "udp", function() ngx.socket.udp() end }, { "socket.connect", function() ngx.socket.connect("127.0.0.1", 1) end },
  { "capture", function() ngx.location.capture("/inner") end }, { "capture_multi", function() ngx.location.capture_multi({ { "/inner" } }) end },
  { "spawn", function() ngx.thread.spawn(function() end) end }, { "wait", function() ngx.thread.wait(coroutine.create(function() end)) end },
  { "on_abort", function() return select(2, ngx.on_abort(function() end)) end }, { "semaphore", function() return select(2, pool.semaphore:wait(0.01)) end },
  { "redirect", function() ngx.redirect("/x") end }, { "exec", function() ngx.exec("/x") end }, { "set_uri", function() ngx.req.set_uri("/x") end },
  { "set_uri_args", function() ngx.req.set_uri_args("x=1") return ngx.var.args end }, { "set_method", function() ngx.req.set_method(ngx.HTTP_POST) end },
  { "set_header", function() ngx.req.set_header("X-Late", "1") return ngx.req.get_headers()["x-late"] end }, { "clear_header", function() ngx.req.clear_header("X-Late") end },
  { "get_body_data", function() return ngx.req.get_body_data() end }, { "get_body_file", function() return ngx.req.get_body_file() end },
  { "get_post_args", function() return ngx.req.get_post_args().a end }, { "is_internal", function() return ngx.req.is_internal() end },
  { "headers", function() return ngx.req.get_headers()["x-test"] end }, { "resp", function() return ngx.resp.get_headers()["x-nothing"] end },
  { "method", function() return ngx.req.get_method() end }, { "var", function() return ngx.var.uri end }, { "ctx", function() ngx.ctx.x = 1 return ngx.ctx.x end },
  { "args", function() return ngx.req.get_uri_args().x end }, { "phase", function() return ngx.get_phase() end }, { "raw_header", function() return #ngx.req.raw_header() > 0 end },
  { "http_version", function() return ngx.req.http_version() end }, { "start_time", function() return ngx.req.start_time() > 0 end }, { "status", function() return ngx.status end },
  { "headers_sent", function() return ngx.headers_sent end }, { "is_subrequest", function() return ngx.is_subrequest end },
  { "timer", function() return ngx.timer.at(0, function() end) end }, { "shared", function() return ngx.shared.d:set("phase", 1) end }, { "re", function() return ngx.re.match("a", "a")[0] end },
  { "log", function() return ngx.log(ngx.DEBUG, "x") end }, { "coroutine", function() return coroutine.wrap(function() coroutine.yield(7) end)() end },
}
local ends = { "exit", function() ngx.exit(200) end }
-- where Sluice lets a script do more, or says why not
local allowed = { timer = { start_time = true }, log = { coroutine = true, eof = true } }
function cases.probe(phase)
  if ngx.shared.p:get(phase) then
    return
  end
  local out = {}
  pool.semaphore = pool.semaphore or require("ngx.semaphore").new()
  local more = allowed[phase] or {}
  for _, call in ipairs(calls) do
    out[#out + 1] = not more[call[1]] and call[1] .. ": " .. try(call[2]) or nil
  end
  -- where it is allowed, it ends more than this function
  if phase ~= "header_filter" and phase ~= "timer" then
    out[#out + 1] = ends[1] .. ": " .. try(ends[2])
  end
  ngx.shared.p:set(phase, table.concat(out, "\n"))
end
local function probed(phase)
  for _ = 1, 500 do
    local found = ngx.shared.p:get(phase)
    if found then
      return say(found)
    end
    ngx.sleep(0.01)
  end
end
-- its route has the other phases
cases.phases = function() say("phases") end
cases.phase_timer = function() ngx.timer.at(0, function() cases.probe("timer") end) probed("timer") end
cases.phase_header_filter = function() probed("header_filter") end
cases.phase_body_filter = function() probed("body_filter") end
cases.phase_log = function() probed("log") end

-- What the error log says
function cases.logs()
  for _, level in ipairs { "EMERG", "ALERT", "CRIT", "ERR", "WARN", "NOTICE", "INFO", "DEBUG" } do
    ngx.log(ngx[level], "as ", level, " ", 1, " ", nil, " ", true)
  end
  local function named() ngx.log(ngx.WARN, "by name") end
  named()
  print("printed")
  local sema = require("ngx.semaphore").new()
  ngx.timer.at(0, function() ngx.log(ngx.WARN, "in a timer") sema:post() end)
  sema:wait(2)
  say("logged")
end
local function deep(text) error(text) end
function cases.fails() deep("in access") end
function cases.fails_threads()
  local function user() deep("in a thread") end
  ngx.thread.wait(ngx.thread.spawn(user))
  ngx.timer.at(0, function() ngx.sleep(0) deep("in a timer") end)
  say("failed")
end
function cases.fails_later(phase) return function() deep("in " .. phase) end end

-- TLS
cases.tls = function()
  local port = tonumber(ngx.var.arg_tls)
  local s = ngx.socket.tcp() s:connect("127.0.0.1", port) local ok, err = s:sslhandshake(nil, "localhost", false) tell(ok and true, err)
  tell(s:send("hello\n")) tell(s:receive()) s:setkeepalive()
  s = ngx.socket.tcp() s:connect("127.0.0.1", port) tell(s:getreusedtimes()) tell(s:sslhandshake(false, "localhost", false)) s:close()
  s = ngx.socket.tcp() s:connect("127.0.0.1", port) tell(s:sslhandshake(nil, "localhost", true)) tell(s:send("x"))
  s = dial() tell((s:sslhandshake(nil, "localhost", false)))
end

-- The client's connection itself
local function raw_answer(s, ...)
  local out = {}
  for i = 1, select("#", ...) do
    out[i] = tostring((select(i, ...)))
  end
  local text = table.concat(out, "\n")
  return s:send({ "HTTP/1.1 200 OK\r\nConnection: close\r\n", { "Content-Length: ", #text, "\r\n\r\n" }, text })
end
-- "a=1&b=x%20y&a=2" comes
cases.raw = function()
  local s, lines = ngx.req.socket(true), {}
  local function note(...) lines[#lines + 1] = select("#", ...) .. ": " .. table.concat({ tostring((...)), tostring((select(2, ...))), tostring((select(3, ...))) }, " ") end
  note(s:receive(3)) note(s:receiveuntil("b=")()) note(s:receiveany(1)) s:settimeout(30) note(s:receive("*l")) note(s:receive(100)) s:settimeouts(100, 100, 30) note(s:receiveany(10))
  note(ngx.say("x")) note(ngx.print("x")) note(ngx.flush(true)) note(ngx.eof()) note(ngx.send_headers()) note(ngx.headers_sent) note(ngx.req.socket(true)) note(ngx.req.socket())
  ngx.req.read_body() note(ngx.req.get_body_data()) ngx.status = 201 ngx.header["X-Late"] = "1" note(ngx.header["X-Late"]) note(ngx.req.get_method())
  note(s.close, s.connect, s.setkeepalive) note(type(s.send), type(s.settimeout))
  raw_answer(s, unpack(lines))
end
cases.raw_after_body = function()
  ngx.req.read_body()
  local s = ngx.req.socket(true) s:settimeout(30)
  raw_answer(s, ngx.req.get_body_data(), s:receive(1))
end
cases.raw_behind_head = function()
  ngx.header["X-Own"] = "head" ngx.header["Content-Length"] = 5 ngx.send_headers() ngx.flush(true)
  local s, err = ngx.req.socket(true)
  s:receive(15) s:send(s and "hello" or err)
  return ngx.exit(200)
end
cases.raw_thread = function()
  local s = ngx.req.socket(true)
  local reader = ngx.thread.spawn(function() return s:receive(15) end)
  local _, data = ngx.thread.wait(reader)
  raw_answer(s, data)
end
cases.raw_subrequest = function() ngx.req.read_body() tell(ngx.location.capture("/inner", { args = "raw=1" }).body) end

-- Subrequests
cases.is_internal = function() tell(ngx.req.is_internal(), ngx.is_subrequest) ngx.req.set_uri("/other") tell(ngx.req.is_internal(), ngx.is_subrequest) end
cases.capture_internal = function() ngx.req.read_body() tell(ngx.location.capture("/inner", { args = "internal=1" }).body) end
local function deeper()
  local depth = tonumber(ngx.var.arg_depth) or 0
  local made, answer = pcall(ngx.location.capture, "/inner?depth=" .. depth + 1)
  say(depth, " ", made, " ", made and answer.status, " ", made and answer.body or answer)
end
cases.inner = function()
  if ngx.var.arg_depth then
    return deeper()
  end
  ngx.status = 203 ngx.header["X-In"] = "in" say(ngx.req.get_method(), " ", ngx.var.args, " ", ngx.var.uri, " ", ngx.var.arg_c and ngx.req.is_internal(), " ", ngx.ctx.lost)
  if ngx.var.arg_internal then
    tell(ngx.req.is_internal(), ngx.is_subrequest, ngx.req.get_method())
  end
  if ngx.var.arg_ctx then
    tell(ngx.ctx.n, ngx.ctx.lost) ngx.ctx.n, ngx.ctx.seen = (ngx.ctx.n or 0) + 1, { ngx.var.uri }
    if ngx.var.arg_ctx == "new" then
      ngx.ctx = { n = 0 }
    end
  end
  if ngx.var.arg_raw then
    told(ngx.req.socket, true) told(ngx.req.socket)
  end
  if ngx.var.arg_body then
    ngx.req.read_body() tell(ngx.req.get_body_data())
  end
end
cases.exec = function() ngx.ctx.lost = 1 return ngx.exec("/inner", "a=1&b=2") end
cases.exec_table = function() return ngx.exec("/inner", { a = "x y" }) end
cases.exec_both = function() return ngx.exec("/inner?c=3", "d=4") end
cases.exec_none = function() return ngx.exec("/inner?c=3") end
cases.exec_late = function() say("x") ngx.flush(true) tell((pcall(ngx.exec, "/inner"))) tell((pcall(ngx.exec, ""))) end
cases.capture = function() ngx.req.read_body() local r = ngx.location.capture("/inner?a=1", { args = { b = "2" } }) tell(r.status, r.header["X-In"], r.body, r.truncated) end
cases.capture_post = function() ngx.req.read_body() local r = ngx.location.capture("/inner", { method = ngx.HTTP_POST, body = "x", args = "z=1" }) tell(r.status, r.body) end
cases.capture_body = function()
  ngx.req.read_body()
  for _, options in ipairs { {}, { method = ngx.HTTP_PUT }, { method = ngx.HTTP_PUT, body = "x" }, { method = ngx.HTTP_PATCH, always_forward_body = true } } do
    tell(ngx.location.capture("/inner?body=1", options).body)
  end
end
cases.capture_ctx = function()
  ngx.req.read_body() ngx.ctx.n, ngx.ctx.lost = 1, "not lost"
  local ctx = { n = 5 }
  for _, options in ipairs { { args = "ctx=1", ctx = ctx }, { args = "ctx=1", ctx = ngx.ctx }, { args = "ctx=new", ctx = ctx }, { args = "ctx=1" }, { args = "ctx=1", ctx = {} } } do
    local body = ngx.location.capture("/inner", options).body
    tell(ctx.n, ctx.seen, ngx.ctx.n, ngx.ctx.seen and ngx.ctx.seen[1], ngx.ctx.lost) say(body)
  end
  ngx.location.capture_multi({ { "/inner", { args = "ctx=1", ctx = ctx } }, { "/inner", { args = "ctx=1", ctx = ctx } }, { "/inner" } }) tell(ctx.n, ngx.ctx.n)
  told(ngx.location.capture, "/inner", { ctx = 1 })
end
cases.capture_bad = function() tell((pcall(ngx.location.capture, "/inner", { vars = 1 }))) tell((pcall(ngx.location.capture, "/inner", { body = {} }))) end
cases.capture_cycle = function() ngx.req.read_body() deeper() end
cases.sleep_bad = function() for _, t in ipairs { 0 / 0, -1, -0.5 } do tell((pcall(ngx.sleep, t))) end end
cases.capture_arguments = function()
  told(function() local r = ngx.location.capture() end) told(function() local r = ngx.location.capture(nil) end) told(function() local r = ngx.location.capture("") end) told(ngx.location.capture, "/inner", {}, 1)
  for _, options in ipairs { 1, { method = "GET" }, { args = print }, { vars = "x" }, { ctx = 1 } } do told(function() local r = ngx.location.capture("/inner", options) end) end
  ngx.req.read_body() tell(ngx.location.capture("/inner", { args = 12 }).body) tell(ngx.location.capture("/inner", { body = 12, method = ngx.HTTP_POST, args = "body=1" }).body)
  told(function() local r = ngx.location.capture_multi() end) told(function() local r = ngx.location.capture_multi({}) end) told(function() local r = ngx.location.capture_multi(1) end)
  for _, request in ipairs { {}, 1, "/inner" } do told(function() local r = ngx.location.capture_multi({ request }) end) end
end
cases.capture_multi = function() ngx.req.read_body() local a, b = ngx.location.capture_multi({ { "/inner", { args = "n=1" } }, { "/inner", { args = "n=2" } } }) tell(a.body, b.body) end

return cases
