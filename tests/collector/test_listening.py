from collector.listening import require_private


def test_private_addresses_are_fine() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "192.168.1.5", "10.0.0.1"):
        require_private(host)
