"""API keys where several processes answer: each of them sees a key come and go."""

from pathlib import Path

from serving import Serving
from waiting import wait_until

from pyserving.api.access import Role
from pyserving.server.key_file import add_key, remove_key

BODY = b'{"instances": [1]}'


def test_every_worker_sees_a_new_key_and_one_that_is_withdrawn(tmp_path: Path) -> None:
    (tmp_path / "table" / "1").mkdir(parents=True)
    (tmp_path / "table" / "1" / "table.csv").write_text("key,value\n1,1.5\n")
    keys = str(tmp_path / "keys")
    old = add_key(keys, "old", [Role.PREDICT])
    server = Serving(str(tmp_path / "table"), "--workers=2", f"--api-keys={keys}").wait_until_ready()

    def statuses(token: str) -> set[int]:
        """Each request by a connection of its own: they reach all workers."""
        headers = {"Authorization": f"Bearer {token}"}
        return {server.post("/v1/models/table:predict", BODY, headers)[0] for _ in range(10)}

    def wait_for(token: str, status: int) -> None:
        wait_until(lambda: statuses(token) == {status})

    try:
        assert statuses(old) == {200}
        assert statuses("pyserving_none") == {401}
        new = add_key(keys, "new", [Role.PREDICT])
        remove_key(keys, "old")
        wait_for(new, 200)
        wait_for(old, 401)
    finally:
        server.stop()
