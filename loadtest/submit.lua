-- wrk: submits echo tasks one by one. NO_TOKEN must hold a token that may submit.
wrk.method = "POST"
wrk.body = '{"agent":"echo","input":{"n":1}}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. assert(os.getenv("NO_TOKEN"), "set NO_TOKEN")
