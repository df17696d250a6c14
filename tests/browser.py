"""A browser by its debugging protocol: enough to use a page as a person does."""

import base64
import json
import subprocess
import time
from pathlib import Path

from websockets.sync.client import connect


class Browser:
    """Headless Chromium with one page open."""

    def __init__(self, program, profile: Path):
        self._command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--remote-debugging-port=0", f"--user-data-dir={profile}", "--lang=en-US", "about:blank",
        ]  # fmt: skip
        self._profile = profile
        self._number = 0

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        file = self._profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (file.is_file() and len(file.read_text().splitlines()) == 2):
            assert time.monotonic() < deadline, "the browser does not start"
            time.sleep(0.1)
        port, path = file.read_text().splitlines()
        self._socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=2**26)
        targets = self._send("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._page("Page.enable")
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)

    def size(self, width, height):
        self._page(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def go(self, url):
        # What a page complains of, content policies included, is kept for the test.
        self._page(
            "Page.addScriptToEvaluateOnNewDocument",
            source="window.problems = []; addEventListener('error', e => problems.push(e.message));"
            "addEventListener('securitypolicyviolation', e => problems.push(e.violatedDirective));",
        )
        self._page("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression):
        found = self._page("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression, seconds=30):
        deadline = time.monotonic() + seconds
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"never: {expression}"
            time.sleep(0.05)

    def text(self, selector):
        return self.value(f"document.querySelector({json.dumps(selector)}).textContent")

    def click(self, selector):
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, selector, text):
        self.value(f"document.querySelector({json.dumps(selector)}).focus()")
        self._page("Input.insertText", text=text)

    def press(self, key):
        code = {"Enter": 13, "Escape": 27}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            own = text if kind == "keyDown" else {}
            self._page("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **own)

    def screenshot(self, file: Path):
        file.write_bytes(base64.b64decode(self._page("Page.captureScreenshot")["data"]))

    def _page(self, method, **parameters):
        return self._send(method, self._session, **parameters)

    def _send(self, method, session=None, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
