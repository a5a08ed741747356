-- wrk: submits echo tasks 100 at a time. NO_TOKEN must hold a token that may submit.
local t = {}
for i = 1, 100 do t[i] = '{"agent":"echo","input":{"n":1}}' end
wrk.method = "POST"
wrk.body = '{"tasks":[' .. table.concat(t, ",") .. ']}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. assert(os.getenv("NO_TOKEN"), "set NO_TOKEN")
