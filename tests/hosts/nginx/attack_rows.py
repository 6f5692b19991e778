"""The attacks: (kind, what is tried, how, the reply it must get, and what else may be seen).

opened: TCP connections that may be tried (0); ran: tasks that may end well (0); absent: texts that must not come back;
unlogged: texts that must be in no log.
"""
import base64
import json
import zlib

from attack_lab import SECRET_FILE, SMALL, frame, png, png_file, uri
from harness import http_bytes, task
from netbox import OUTER, Victims

ROWS = []


def row(kind, name, send, reply, **more):
    ROWS.append(dict(kind=kind, name=name, send=send, reply=reply, **more))


def ssrf(name, url, reply="400 invalidSeedImage", path="/generate", **more):
    row("SSRF", name, lambda lab: lab.seed(url(lab) if callable(url) else url, path), reply, **more)


# ---- addresses in every spelling ----

for what, host in [("loopback", "127.0.0.1"), ("loopback, short", "127.1"), ("loopback, decimal", "2130706433"),
                   ("loopback, hexadecimal", "0x7f000001"), ("loopback, hexadecimal parts", "0x7f.0x0.0x0.0x1"),
                   ("loopback, octal", "0177.0.0.1"), ("loopback, percent-encoded", "%31%32%37.0.0.1"),
                   ("loopback, dot behind", "127.0.0.1."), ("loopback, wide digits", "１２７.0.0.1"),
                   ("loopback, other number", "127.8.8.8"), ("this network", "0"), ("this network", "0.0.0.0"),
                   ("private, class A", "10.0.0.5"), ("private, class B", "172.16.0.5"),
                   ("private, class C", "192.168.1.5"), ("shared by providers", "100.100.100.200"),
                   ("metadata service", "169.254.169.254"), ("metadata service, decimal", "2852039166"),
                   ("the cloud's host", "168.63.129.16"), ("benchmark network", "198.18.0.5"),
                   ("broadcast", "255.255.255.255"), ("multicast", "224.0.0.1"),
                   ("this machine's public number", OUTER), ("IPv6 loopback", "[::1]"),
                   ("IPv6 loopback, long", "[0:0:0:0:0:0:0:1]"), ("IPv6 unspecified", "[::]"),
                   ("IPv4 in IPv6", "[::ffff:127.0.0.1]"), ("IPv4 in IPv6, hexadecimal", "[::ffff:7f00:1]"),
                   ("IPv4 behind NAT64", "[64:ff9b::7f00:1]"), ("IPv4 behind 6to4", "[2002:7f00:1::1]"),
                   ("IPv6 metadata service", "[fd00:ec2::254]"), ("IPv6 link-local", "[fe80::5]"),
                   ("IPv6 with an interface", "[fe80::5%25lo]")]:
    ssrf(f"{what}: `http://{host}/`", f"http://{host}/x.png")

# ---- names ----

for what, name in [("a name of a private address", "inner.test"), ("a name of loopback", "loop.test"),
                   ("a name of 0.0.0.0", "zero.test"), ("a name of the metadata service", "meta.test"),
                   ("a name of ::1", "six.test"), ("a name of a unique local address", "unique.test"),
                   ("a name of an IPv4 address in IPv6", "mapped.test"), ("a name of a NAT64 address", "nat.test"),
                   ("a name of public and private addresses", "mixed.test"),
                   ("a name of this machine's public number", "own.test"), ("`localhost`", "localhost"),
                   ("`LOCALHOST.`", "LOCALHOST."), ("a name nobody knows (looks the same)", "nobody.test")]:
    ssrf(what, f"http://{name}/x.png", "400 downloadFailed")
row("SSRF", "a name that changes its address after the first look", lambda lab: [
    lab.seed("http://rebind.test/x.png"), lab.seed("http://rebind.test/x.png")][-1], "400 downloadFailed")

# ---- other doors ----

ssrf("port of SSH", "http://example.org:22/")
ssrf("port of Redis", "http://example.org:6379/")
ssrf("`file:`", "file:///etc/passwd")
ssrf("`gopher:`", "gopher://127.0.0.1:6379/_FLUSHALL")
ssrf("`dict:`", "dict://127.0.0.1:6379/info")
ssrf("`ftp:`", "ftp://127.0.0.1/x")
ssrf("credentials that look like a host", "http://example.org@127.0.0.1/")
ssrf("credentials", "http://user:password@example.org/")
ssrf("backslash before the real host", "http://example.org\\@127.0.0.1/")
ssrf("fragment before the real host", "http://127.0.0.1#@example.org/")
ssrf("tab inside", "http://127.0.0.1\t.example.org/")
ssrf("line break and a header", "http://example.org/\r\nX-Evil: 1")
row("SSRF", "mask instead of seed picture", lambda lab: lab.task(
    seedImage=uri(SMALL), maskImage="http://127.0.0.1/x.png"), "400 invalidMaskImage")
for field, code in [("webhookURL", "invalidWebhookURL"), ("uploadEndpoint", "invalidUploadEndpoint")]:
    row("SSRF", f"`{field}` with another scheme", lambda lab, f=field: lab.task(**{f: "file:///etc/passwd"}),
        f"400 {code}")
    row("SSRF", f"`{field}` with a line break", lambda lab, f=field: lab.task(**{f: "http://a.example/\r\nX: 1"}),
        f"400 {code}")

for host in ["127.0.0.1", "169.254.169.254", "[::ffff:10.0.0.5]"]:
    row("SSRF", f"`webhookURL` of `http://{host}/`", lambda lab, h=host: lab.task(webhookURL=f"http://{h}/"),
        "400 invalidWebhookURL")
    row("SSRF", f"`uploadEndpoint` of `http://{host}/`", lambda lab, h=host: lab.task(uploadEndpoint=f"http://{h}/"),
        "400 invalidUploadEndpoint")
for name in ["inner.test", "loop.test", "six.test", "own.test"]:
    row("SSRF", f"webhook to a name of a closed address: {name}", lambda lab, n=name: lab.webhook(f"http://{n}/x"),
        "200", ran=1)
    row("SSRF", f"upload to a name of a closed address: {name}", lambda lab, n=name: lab.task(
        uploadEndpoint=f"http://{n}/x"), "200 uploadFailed", ran=1)
row("SSRF", "upload to an allowed host that sends it to a private address: asked five times, never followed",
    lambda lab: lab.task("/cdn", uploadEndpoint=lab.redirect("http://10.0.0.5/", 307)), "200 uploadFailed", opened=5,
    ran=1)

# ---- redirects: cdn.test is allowed, what it says is not ----

for what, to, reply in [("to a private address", "http://10.0.0.5/", "400 downloadFailed"),
                        ("to a name of loopback", "http://loop.test/", "400 downloadFailed"),
                        ("to the metadata service", "http://169.254.169.254/latest/meta-data/", "400 downloadFailed"),
                        ("to a file", "file:///etc/passwd", "400 downloadFailed"),
                        ("to another port", "http://cdn.test:22/", "400 downloadFailed"),
                        ("to credentials", "http://a:b@cdn.test/", "400 downloadFailed")]:
    ssrf(f"redirect {what}", lambda lab, to=to: lab.redirect(to), reply, path="/cdn", opened=1)
ssrf("redirect that keeps its method, to loopback", lambda lab: lab.redirect("http://127.0.0.1/", 307),
     "400 downloadFailed", path="/cdn", opened=1)
ssrf("redirects without end", lambda lab: lab.redirect(f"/{len(lab.victims.pages)}.png"), "400 invalidSeedImage",
     path="/cdn", opened=4)
ssrf("a page that is no picture", "http://cdn.test/page", "400 invalidSeedImage", path="/cdn", opened=1)
ssrf("an answer longer than allowed, announced", lambda lab: lab.page(
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), "400 invalidSeedImage", path="/cdn", opened=1)
ssrf("an answer longer than allowed, not announced", lambda lab: lab.page(
    b"HTTP/1.1 200 OK\r\n\r\n" + bytes(2000000)), "400 invalidSeedImage", path="/cdn", opened=1)
ssrf("a picture of a thousand million pixels, fetched", lambda lab: lab.page(
    b"HTTP/1.1 200 OK\r\n\r\n" + png_file(65535, 65535)), "400 invalidSeedImage", path="/cdn", opened=1)
ssrf("an answer that is no HTTP", lambda lab: lab.page(b"SSH-2.0-OpenSSH_10.0\r\n"), "400 downloadFailed",
     path="/cdn", opened=1)

# ---- injection ----


def without(lab, name, *texts):
    """The reply's head must not have gained anything."""
    head = lab.last.partition(b"\r\n\r\n")[0].lower()
    assert not any(t.encode().lower() in head for t in texts), head
    return name


def result_url(lab, headers="", host="good.example"):
    body = json.dumps([task(model="reverie:1@1", outputType="URL")])
    got = lab.raw((f"POST /generate HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n"
                   f"{headers}Content-Length: {len(body)}\r\n\r\n{body}").encode())
    assert "evil" not in lab.item()["imageURL"], lab.item()
    return lab.summary(got)


for what, members, reply in [
        ("line break in taskUUID", {"taskUUID": "6ba7b814-9dad-41d1-80b4-00c04fd430c8\r\nX-Evil: 1"},
         "400 invalidTaskUUID"),
        ("SQL in taskUUID", {"taskUUID": "' OR 1=1; --"}, "400 invalidTaskUUID"),
        ("line break in model", {"model": "reverie:1@1\r\nX-Evil: 1"}, "400 invalidModel"),
        ("line break in outputFormat", {"outputFormat": "PNG\r\nX-Evil: 1"}, "400 invalidOutputFormat"),
        ("`__proto__` as a parameter", {"__proto__": {"admin": True}}, "400 unknownParameter"),
        ("NUL in the prompt", {"positivePrompt": "a\0b"}, "400 invalidRequestBody")]:
    row("injection", what, lambda lab, m=members: without(lab, lab.task(**m), "x-evil"), reply)
row("injection", "SQL in the prompt is only words", lambda lab: lab.task(positivePrompt="'; DROP TABLE tasks; --"),
    "200", ran=1)
row("injection", "format signs in the prompt are only words", lambda lab: lab.task(positivePrompt="%s%n%x{}${x}"),
    "200", ran=1)
row("injection", "a log line in the prompt", lambda lab: lab.task(
    positivePrompt="fox\nreveried: task=forged state=done"), "200", ran=1, unlogged=["forged"])
row("injection", "terminal commands in the model's name", lambda lab: lab.task(model="\x1b[2J\x1b]0;evil\x07"),
    "400 invalidModel", unlogged=["\x1b"], absent=[b"\x1b"])
row("injection", "evil `Host`: not in imageURL", lambda lab: result_url(lab, host="evil.example"), "200", ran=1)
row("injection", "`X-Forwarded-Host`: not in imageURL", lambda lab: result_url(
    lab, "X-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n"), "200", ran=1)
row("injection", "our own inner header from outside: not in imageURL", lambda lab: result_url(
    lab, "Reverie-Results-URL: http://evil.example/\r\n"), "200", ran=1)
row("injection", "the same parameter twice", lambda lab: lab.post(
    json.dumps([task()])[:-2] + ',"model":"runware:97@1"}]'), "400 invalidModel")
row("injection", "half a surrogate pair", lambda lab: lab.post(
    json.dumps([task()]).replace("a fox", "\\ud800")), "400 invalidRequestBody")
row("injection", "bytes that are no UTF-8", lambda lab: lab.post(
    json.dumps([task()]).encode().replace(b"a fox", b"\xc0\xaf\xff")), "400 invalidRequestBody")
row("injection", "a second JSON text behind the first", lambda lab: lab.post(
    json.dumps([task()]) * 2), "400 invalidRequestBody")

# ---- traversal ----

for target in [b"/images/../../../../etc/passwd", b"/images/..%2f..%2f..%2fetc%2fpasswd",
               b"/images/%2e%2e/%2e%2e/secret.png", b"/images/..%252f..%252fsecret.png",
               b"/images/....//....//secret.png", b"/images/..\\..\\secret.png", b"/images//etc/passwd",
               b"/images/secret.png", b"/images/.writing-aaaaaaaaaaaaaaaaaaaaaaaaaa", b"/images/",
               b"/images/aaaaaaaaaaaaaaaaaaaaaaaaaa-0.png/../secret.png",
               b"/images/aaaaaaaaaaaaaaaaaaaaaaaaaa-0.png/x", b"/images/../generate/../../secret.png"]:
    row("traversal", f"`GET {target.decode()}`", lambda lab, t=target: lab.get(t),
        "400" if target.startswith((b"/images/../../", b"/images/../generate")) or b"%2f..%2f" in target and
        b"%25" not in target or b"%2e%2e/%2e%2e" in target else "404", absent=[b"root:", SECRET_FILE.encode()])
for what, members, reply in [
        ("a path as the model", {"model": "../../../etc/passwd"}, "400 invalidModel"),
        ("a file: URL as the model", {"model": "file:///etc/passwd"}, "400 invalidModel"),
        ("a path as the seed picture", {"seedImage": "/etc/passwd"}, "400 invalidSeedImage"),
        ("a path as a LoRA", {"lora": [{"model": "../../secret.png", "weight": 1}]}, "400 invalidModel")]:
    row("traversal", what, lambda lab, m=members: lab.task(**m), reply)
row("traversal", "`GET /images/aaaaaaaaaaaaaaaaaaaaaaaaaa-0.png%00.jpg`", lambda lab: lab.get(
    b"/images/aaaaaaaaaaaaaaaaaaaaaaaaaa-0.png%00.jpg"), "400")
row("traversal", "a stored picture's URL that leaves the folder", lambda lab: lab.seed(
    "http://good.example/images/../secret.png"), "400 downloadFailed", absent=[SECRET_FILE.encode()])

# ---- smuggling ----

HEAD = b"POST /generate HTTP/1.1\r\nHost: good.example\r\nContent-Type: application/json\r\n"
SMUGGLED = http_bytes([task(model="reverie:1@1")])


def smuggle(name, data, reply, **more):
    row("smuggling", name, lambda lab: lab.statuses(data, finish=True), reply, **more)


smuggle("length and chunks", HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, "400")
smuggle("chunks and length", HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED, "400")
smuggle("two lengths", HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]" + SMUGGLED, "400")
smuggle("two lengths in one line", HEAD + b"Content-Length: 2, 3\r\n\r\n[]" + SMUGGLED, "400")
smuggle("the same length twice", HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n[]" + SMUGGLED, "400")
for value in [b"+2", b"-2", b"0x2", b"2 2", b"99999999999999999999999"]:
    smuggle(f"length `{value.decode()}`", HEAD + b"Content-Length: " + value + b"\r\n\r\n[]" + SMUGGLED, "400")
smuggle("unknown encoding", HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED, "501")
smuggle("two encodings", HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED, "501")
smuggle("encoding twice", HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        "400")
smuggle("space before the colon", HEAD + b"Transfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n[]" + SMUGGLED, "400")
smuggle("folded header", HEAD + b"Content-Length: 2\r\n Transfer-Encoding: chunked\r\n\r\n[]" + SMUGGLED, "400")
smuggle("NUL in a header", HEAD + b"X: a\0b\r\nContent-Length: 2\r\n\r\n[]" + SMUGGLED, "400")
smuggle("chunk size that overflows", HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n" + SMUGGLED, "400")
smuggle("chunk size with a sign", HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n" + SMUGGLED, "400")
smuggle("a request in the body of a GET", b"GET /healthz?live HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, "200")
smuggle("no Host", b"POST /generate HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]", "400")
smuggle("two Hosts", HEAD + b"Host: evil.example\r\nContent-Length: 2\r\n\r\n[]", "400")
smuggle("a version that does not exist", b"POST /generate HTTP/9.9\r\nHost: good.example\r\n\r\n", "505")
smuggle("`CONNECT` to an inner host", b"CONNECT 10.0.0.5:80 HTTP/1.1\r\nHost: 10.0.0.5\r\n\r\n",
        "400 or 405")  # nginx 1.26, 1.30
smuggle("`TRACE`", b"TRACE /generate HTTP/1.1\r\nHost: good.example\r\n\r\n", "405")
smuggle("a whole URL of an inner host: ours answers", b"GET http://10.0.0.5/healthz?live HTTP/1.1\r\nHost: 10.0.0.5\r\n"
        b"Connection: close\r\n\r\n", "200")

# ---- bombs ----


def bomb(name, data, reply="400 invalidSeedImage", kind="png", **more):
    row("bomb", name, lambda lab: lab.seed(uri(data() if callable(data) else data, kind), "/engine", strength=0),
        reply, ran=int(reply == "200"), **more)


ZEROS = zlib.compress(bytes(1 << 24), 9)
bomb("PNG of 65535 x 65535 pixels in 200 bytes", png_file(65535, 65535))
bomb("PNG of 2^31-1 x 2^31-1 pixels", png_file(0x7fffffff, 0x7fffffff))
bomb("PNG with a width that overflows", png_file(0xffffffff, 1))
bomb("PNG without width", png_file(0, 16))
bomb("PNG rows that inflate to a thousand times what the header says: the rest is not looked at",
     png_file(16, 16, ZEROS), "200")
bomb("PNG profile that inflates", png_file(16, 16, extra=png(1, 1)[1](b"iCCP", b"x\0\0" + ZEROS)), "200")
bomb("PNG text that inflates", png_file(16, 16, extra=png(1, 1)[1](b"zTXt", b"x\0\0" + ZEROS)), "200")
bomb("PNG cut in the middle", SMALL[:-20])
bomb("PNG with a chunk longer than the file", SMALL[:8] + b"\x7f\xff\xff\xff" + SMALL[12:])
bomb("JPEG of 65535 x 65535 pixels", bytes.fromhex(
    "ffd8ffc0001108ffffffff03011100021100031100ffda000c03010002000300003f00") + bytes(64), kind="jpeg")
bomb("JPEG of nothing but segments", b"\xff\xd8" + b"\xff\xe1\x00\x02" * 100000 + b"\xff\xd9", kind="jpeg")
bomb("JPEG with a segment that never ends", b"\xff\xd8\xff\xe1\xff\xff" + bytes(64), kind="jpeg")
bomb("WebP of 16384 x 16384 pixels", b"RIFF\x20\0\0\0WEBPVP8L\x10\0\0\0\x2f\xff\xff\xff\x0f" + bytes(12), kind="webp")
bomb("WebP whose parts are longer than the file", b"RIFF\xff\xff\xff\xffWEBPVP8X\xff\xff\xff\xff" + bytes(16), kind="webp")
for what, data in [("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"),
                   ("GIF", b"GIF89a\xff\xff\xff\xff" + bytes(20)), ("ZIP", b"PK\3\4" + bytes(60))]:
    row("bomb", f"{what} that calls itself PNG", lambda lab, d=data: lab.seed(uri(d), "/engine"),
        "400 invalidSeedImage")
row("bomb", "100,000 brackets", lambda lab: lab.post("[" * 100000), "400 invalidRequestBody")
row("bomb", "100,000 nested objects", lambda lab: lab.post('{"a":' * 100000), "400 invalidRequestBody")
row("bomb", "100,000 parameters", lambda lab: lab.post(
    json.dumps([{**task(), **{f"k{i}": 1 for i in range(100000)}}])), "400 unknownParameter", absent=[b"k99999"])
row("bomb", "a number of 100,000 digits", lambda lab: lab.post(
    json.dumps([task(seed=0)]).replace('"seed": 0', '"seed": ' + "9" * 100000)), "400 invalidRequestBody")
row("bomb", "a number beyond all numbers", lambda lab: lab.post(
    json.dumps([task(CFGScale=0)]).replace('"CFGScale": 0', '"CFGScale": 1e999999')), "400 invalidRequestBody")
row("bomb", "compressed body", lambda lab: lab.post(
    zlib.compress(bytes(1 << 24), 9), headers="Content-Encoding: deflate\r\n"), "415 unsupportedMediaType")

# ---- oversize ----

for what, members, reply in [
        ("a prompt of 10,001 characters", {"positivePrompt": "x" * 10001}, "400 invalidPositivePromptLength"),
        ("a picture of 10^9 x 10^9", {"width": 10 ** 9, "height": 10 ** 9}, "400 invalidCustomWidth"),
        ("10^9 pictures", {"numberResults": 10 ** 9}, "400 invalidNumberResults"),
        ("10^9 steps", {"steps": 10 ** 9}, "400 invalidSteps"),
        ("a seed of 2^65", {"seed": 2 ** 65}, "400 invalidSeed"),
        ("a negative width", {"width": -128, "height": 128}, "400 invalidCustomWidth"),
        ("a URL of 9,000 characters", {"seedImage": "http://example.org/" + "x" * 9000}, "400 invalidSeedImage")]:
    row("oversize", what, lambda lab, m=members: lab.task(**m), reply)
row("oversize", "21 tasks where 20 are allowed", lambda lab: lab.post(
    json.dumps([task() for _ in range(21)])), "400 arrayTooLarge")
row("oversize", "a body longer than `client_max_body_size`", lambda lab: lab.post(b"[" + b" " * 3000000), "413 maxRequestSize")
row("oversize", "a length of 2^60 and nothing behind it", lambda lab: lab.statuses(
    HEAD + b"Content-Length: 1152921504606846976\r\n\r\n"), "413")
row("oversize", "a chunk of 2^40 bytes", lambda lab: lab.statuses(
    HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n10000000000\r\n", more=[b"[" * 3000000]), "413")
row("oversize", "a header of 64 kB", lambda lab: lab.statuses(
    HEAD + b"X: " + b"x" * 65536 + b"\r\n\r\n", finish=True), "400")
row("oversize", "a request line of 64 kB", lambda lab: lab.statuses(
    b"GET /" + b"x" * 65536 + b" HTTP/1.1\r\n\r\n", finish=True), "414")
row("oversize", "a body that never comes", lambda lab: lab.statuses(HEAD + b"Content-Length: 100\r\n\r\n["), "closed")
row("oversize", "headers that never end", lambda lab: lab.statuses(HEAD), "closed")

# ---- WebSocket ----

PING = b'[{"taskType":"ping","ping":true}]'
for what, frames, reply in [
        ("frame without mask", [frame(PING, mask=False)], "101, close 1002"),
        ("reserved bits", [frame(PING, first=0xc1)], "101, close 1002"),
        ("unknown kind of frame", [frame(PING, first=0x83)], "101, close 1002"),
        ("a frame of 2^62 bytes", [frame(b"[" * 100, length=1 << 62)], "101, close 1009"),
        ("a ping of 200 bytes", [frame(b"x" * 200, first=0x89)], "101, close 1002"),
        ("a ping in fragments", [frame(b"x", first=0x09)], "101, close 1002"),
        ("text that is no UTF-8", [frame(b"\xff\xfe\xc0")], "101, close 1007"),
        ("binary frames", [frame(PING, first=0x82)], "101, close 1003")]:
    row("WebSocket", what, lambda lab, f=frames: lab.websocket(*f), reply)
