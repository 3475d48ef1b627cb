"""What a build borrows from the machine: how to reach an index, and nothing that only means something here."""

import configparser
from pathlib import Path

from penstock_local.images.host import CERTIFICATES_IN_BUILD, certificate_bundle, pip_settings, proxies


def settings(files: list[str], environment: dict[str, str], *, certificates: bool = False) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    parser.read_string(pip_settings(files, environment, certificates=certificates))
    return dict(parser["global"])


def test_an_index_of_the_user_reaches_the_build_with_its_password() -> None:
    url = "https://user:p%40ss@pypi.example.com/simple"
    assert settings([f"[global]\nindex-url = {url}\n"], {})["index-url"] == url


def test_the_environment_wins_over_files_and_a_later_file_over_an_earlier_one() -> None:
    files = ["[global]\ntimeout = 10\nretries = 1\n", "[install]\ntimeout = 20\n"]
    found = settings(files, {"PIP_TIMEOUT": "30"})
    assert (found["timeout"], found["retries"]) == ("30", "1")


def test_paths_and_habits_of_this_machine_stay_here() -> None:
    environment = {"PIP_FIND_LINKS": "/some/wheels", "PIP_CONSTRAINT": "/some/pins.txt", "PIP_USER": "1", "PIP_CACHE_DIR": "/x"}
    found = settings(["[global]\ncert = /home/me/ca.pem\nrequire-virtualenv = true\n"], environment)
    assert set(found) == {"disable-pip-version-check", "root-user-action"}


def test_the_machines_certificates_are_named_by_their_place_in_the_build() -> None:
    found = settings([], {"PIP_CERT": "/home/me/ca.pem"}, certificates=True)
    assert found["cert"] == CERTIFICATES_IN_BUILD


def test_a_pip_configuration_that_cannot_be_read_is_left_out() -> None:
    assert "index-url" not in settings(["index-url = no section\n"], {})


def test_the_bundle_that_pip_is_told_to_use_comes_before_the_systems(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    assert certificate_bundle({"PIP_CERT": str(bundle)}) == bundle
    assert certificate_bundle({"PIP_CERT": str(tmp_path / "absent.pem"), "SSL_CERT_FILE": str(bundle)}) == bundle


def test_only_proxies_that_are_set_are_passed() -> None:
    assert proxies({"http_proxy": "http://proxy:3128", "HTTPS_PROXY": "", "HOME": "/root"}) == {
        "http_proxy": "http://proxy:3128"
    }
