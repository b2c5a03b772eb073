-- Ask Fedgate's authorizer whether a request may pass: `http-request lua.fedgate HOST:PORT`.
-- Afterwards txn.fedgate is "pass", or the client has been answered. After an error in here HAProxy goes on as if
-- nothing had been asked: the configuration must deny what has no "pass".

local ANSWERED = { "authorization", "x-amz-date", "x-amz-content-sha256", "x-fedgate-principal", "x-fedgate-account",
                   "x-fedgate-session", "x-fedgate-source-identity", "x-fedgate-tags", "x-fedgate-content-sha256",
                   "x-fedgate-request-id" }
-- What the client is told besides status and body.
local TOLD = { "content-type", "x-fedgate-error", "www-authenticate", "location", "set-cookie", "cache-control",
               "referrer-policy", "allow", "retry-after", "x-amz-request-id" }
-- They belong to the connection to the client and to the body, which is not sent; or they are set below.
local KEPT_BACK = { ["connection"] = true, ["content-length"] = true, ["expect"] = true, ["keep-alive"] = true,
                    ["te"] = true, ["trailer"] = true, ["transfer-encoding"] = true, ["upgrade"] = true,
                    ["x-original-method"] = true, ["x-original-uri"] = true, ["x-original-content-length"] = true,
                    ["x-original-transfer-encoding"] = true }
-- Where [authz] secret_file is set, its secret.
local SECRET = nil

local function described(txn)
    local headers = {}
    local sent = txn.http:req_get_headers()
    for name, values in pairs(sent) do
        if not KEPT_BACK[name] then
            headers[name] = {}
            -- The values are counted from 0.
            for place = 0, #values do headers[name][place + 1] = values[place] end
        end
    end
    headers["x-original-method"] = { txn.sf:method() }
    headers["x-original-uri"] = { txn:get_var("txn.fedgate_uri") }
    -- Some clients sign the length, and a service of kind "http" is told whether there is a body that nobody signed.
    for _, name in ipairs({ "content-length", "transfer-encoding" }) do
        if sent[name] then headers["x-original-" .. name] = { sent[name][0] } end
    end
    headers["x-fedgate-forwarded-for"] = { txn.sf:src() }
    local tls = txn.sf:ssl_fc_protocol()
    headers["x-fedgate-tls-version"] = tls and { tostring(tls) } or nil
    headers["x-fedgate-forwarded-proto"] = { tostring(txn.sf:ssl_fc()) ~= "0" and "https" or "http" }
    if SECRET then headers["x-fedgate-authz-secret"] = { SECRET } end
    return headers
end

local function refuse(txn, status, answer)
    local reply = txn:reply()
    reply:set_status(status)
    for _, name in ipairs(TOLD) do
        local values = answer and answer.headers[name]
        -- The values are counted from 0; there may be several cookies.
        if values then for place = 0, #values do reply:add_header(name, values[place]) end end
    end
    if answer and answer.body then reply:set_body(answer.body) end
    txn:done(reply)
end

local function pass(txn, headers)
    for _, name in ipairs(ANSWERED) do
        if headers[name] then txn.http:req_set_header(name, headers[name][0]) end
    end
    -- Cookies without those of Fedgate.
    txn.http:req_del_header("cookie")
    local cookies = headers["x-fedgate-cookie"] and headers["x-fedgate-cookie"][0]
    if cookies and cookies ~= "" then txn.http:req_set_header("cookie", cookies) end
    txn:set_var("txn.fedgate_uri", headers["x-fedgate-uri"] and headers["x-fedgate-uri"][0] or txn:get_var("txn.fedgate_uri"))
    txn:set_var("txn.fedgate", "pass")
end

core.register_action("fedgate", { "http-req" }, function(txn, address)
    local answer = core.httpclient():get({ url = "http://" .. address .. "/authz/haproxy", headers = described(txn), timeout = 10000 })
    if answer and answer.status == 200 then return pass(txn, answer.headers) end
    -- Only refusals are told, and the way to the sign-in page: whatever else comes is no answer.
    if answer and (answer.status == 302 or answer.status == 303) then return refuse(txn, answer.status, answer) end
    -- 501: no operation of S3 that can pass. Clients would try again after 503.
    local is_refusal = answer and (answer.status >= 400 and answer.status < 500 or answer.status == 501)
    if is_refusal then return refuse(txn, answer.status, answer) end
    refuse(txn, 503, nil)
end, 1)
