"""g++'s and clang's programs come to the same bits. `tests/run clang` says which builds."""

import data
import pytest
import test_same_bits


@pytest.mark.parametrize("case", test_same_bits.CASES)
def test_two_builds_agree(make_server, bin_directory, other_bin_directory, tmp_path, case):
    found = []
    for name, directory in (("one", bin_directory), ("other", other_bin_directory)):
        client = make_server(directory=name, programs_from=directory).start().client
        client.add_npz("blobs", data.blobs(250), tmp_path)
        client.add_npz("images", data.images(250, size=12, classes=5), tmp_path)
        found.append(test_same_bits.results(client, test_same_bits.CASES[case], tmp_path))
    assert found[0] == found[1]
