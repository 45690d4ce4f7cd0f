"""requests, with a session and its adapters."""

from __future__ import annotations

from collections.abc import Iterator

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests.conformance.clients.program import Calls, run


class Requests(Calls):
    def open(self) -> None:
        self.session = requests.Session()
        self.retrying_session = requests.Session()
        self.retrying_session.mount("http://", HTTPAdapter(max_retries=Retry(2, status_forcelist=[503])))

    def close(self) -> None:
        self.session.close()
        self.retrying_session.close()

    def call(self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
        return self.session.request(method, url, data=body, headers=headers, timeout=self.TIMEOUT).status_code

    def send_parts(self, url: str, parts: Iterator[bytes]) -> None:
        self.session.post(url, data=parts, timeout=self.TIMEOUT)

    def read_parts(self, url: str) -> int:
        with self.session.get(url, stream=True, timeout=self.TIMEOUT) as response:
            return sum(map(len, response.iter_content(1000)))

    def give_up(self, url: str) -> None:
        with self.session.get(url, stream=True, timeout=self.TIMEOUT) as response:
            next(response.iter_content(1000))

    def retrying(self, url: str) -> int:
        return self.retrying_session.get(url, timeout=self.TIMEOUT).status_code


if __name__ == "__main__":
    run(Requests())
