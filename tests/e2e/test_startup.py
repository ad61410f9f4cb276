"""How a server starts, whom it lets in, and how it ends."""

import signal
import socket

import data
import programs
import pytest


def test_sigterm_and_sigint_stop_an_idle_server(make_server):
    server = make_server().start()
    assert server.stop() == 0
    assert not server.address_file.exists()
    server.start()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(programs.TIMEOUT_SECONDS) == 0


def test_a_port_in_use_is_named(make_server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, message = make_server("--listen", address).refuses_to_start()
    assert code == 3
    assert address in message


def test_a_data_directory_that_is_a_file_is_refused(make_server, tmp_path):
    (tmp_path / "server").write_text("not a directory")
    code, message = make_server().refuses_to_start()
    assert code == 4
    assert str(tmp_path / "server") in message


def test_two_servers_do_not_share_a_data_directory(make_server):
    first = make_server().start()
    address = first.address_file.read_text()
    second = make_server()
    second.log = second.log.with_suffix(".second.log")
    code, message = second.refuses_to_start()
    assert code == 4
    assert "server" in message
    assert first.address_file.read_text() == address
    first.client.run("jobs")


@pytest.mark.parametrize("options", [["--no-such-option"], ["--listen", "nonsense"],
                                     ["--threads", "-1"], ["--local-workers", "many"]])
def test_wrong_usage_is_exit_code_2(make_server, options):
    code, message = make_server(*options).refuses_to_start()
    assert code == 2
    assert options[0] in message or options[-1] in message


def test_listening_beyond_this_machine_needs_a_token_or_a_clear_word(make_server):
    code, message = make_server("--listen", "0.0.0.0:0").refuses_to_start()
    assert code == 2
    assert "--token-file" in message and "--insecure" in message


def test_a_token_is_asked_for(make_server, tmp_path):
    token = tmp_path / "token"
    token.write_text("open sesame\n")
    token.chmod(0o600)
    server = make_server(token_file=token).start()
    client = server.client
    client.add_npz("blobs", data.blobs(250), tmp_path)
    client.train(data.job(), tmp_path)

    wrong = tmp_path / "wrong"
    wrong.write_text("open barley\n")
    wrong.chmod(0o600)
    for stranger in (programs.Client(client.program, client.address),
                     programs.Client(client.program, client.address, wrong)):
        for command in (["jobs"], ["models"], ["datasets", "list"],
                        ["predict", "mlp", "--dataset", "blobs", "--first", 1]):
            assert "token" in stranger.refused(*command).lower()
    client.run("jobs")


def test_no_server_is_exit_code_3(bin_directory):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert address in programs.Client(bin_directory / "lockstep", address).run("jobs", exit_code=3)


def test_only_the_owner_reads_the_worker_token(server):
    token = server.data_directory / "worker.token"
    assert token.stat().st_mode & 0o777 == 0o600


def test_a_stranger_cannot_register_as_a_worker(server, tmp_path):
    token = tmp_path / "token"
    token.write_text("a guess\n")
    token.chmod(0o600)
    worker = programs.start_worker(server, token, tmp_path / "cache")
    output, _ = worker.communicate(timeout=programs.TIMEOUT_SECONDS)
    assert worker.returncode != 0
    assert "token" in output.lower()


def test_a_killed_worker_is_replaced(server):
    before = programs.wait_until(server.workers, "a worker runs")
    server.kill_worker()
    after = programs.wait_until(server.workers, "another worker runs")
    assert after != before


@pytest.mark.parametrize("command", [
    [], ["submit"], ["jobs"], ["show"], ["watch"], ["cancel"], ["fetch"], ["predict"],
    ["evaluate"], ["models"], ["datasets"], ["datasets", "add"], ["datasets", "list"]])
def test_every_command_explains_itself(bin_directory, command):
    client = programs.Client(bin_directory / "lockstep", "127.0.0.1:1")
    assert "Usage" in client.run(*command, "--help")
