"""A page to choose a picture, and its answer:  python web.py ADDRESS PORT"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pyserving import Client, ServingError

LARGEST = 10_000_000
PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Shapes</title>
<h1>Which shape is it?</h1>
<label>A JPEG or PNG file: <input type="file" accept="image/jpeg,image/png"></label>
<p><img alt="" height="160"></p>
<output></output>
<script>
document.querySelector("input").onchange = async ({target}) => {
  const file = target.files[0]
  document.querySelector("img").src = URL.createObjectURL(file)
  const answer = await (await fetch("classify", {method: "POST", body: file})).json()
  document.querySelector("output").textContent =
    answer.error ?? `${answer.label} (${(100 * answer.score).toFixed(0)} %)`
}
</script>
"""

client = Client(sys.argv[1])


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(200, "text/html; charset=utf-8", PAGE)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length > LARGEST:
            self.answer(413, "application/json", json.dumps({"error": "the picture is too large"}))
            return
        try:
            found = client.predict("shapes", [self.rfile.read(length)])
        except ServingError as error:
            self.answer(400, "application/json", json.dumps({"error": error.message}))
            return
        body = {"label": found["label"][0].decode(), "score": round(float(found["score"][0]), 3)}
        self.answer(200, "application/json", json.dumps(body))

    def answer(self, status: int, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Web).serve_forever()
