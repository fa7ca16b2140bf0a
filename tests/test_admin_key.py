from __future__ import annotations

import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.admin_key import obtain, weakness_of
from hodios.errors import ConfigError


def test_a_key_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    first = obtain(home)
    assert first.is_new
    assert first.value.startswith("sk-hodios-")
    assert len(first.value) >= len("sk-hodios-") + 32
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    second = obtain(home)
    assert (second.value, second.is_new, second.was_exposed) == (first.value, False, False)
    assert weakness_of(first.value) is None


def test_starts_at_once_agree(tmp_path: Path) -> None:
    program = "import sys, pathlib; from hodios.admin_key import obtain; print(obtain(pathlib.Path(sys.argv[1])).value)"
    starts = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    keys = {start.communicate()[0].strip() for start in starts}
    assert len(keys) == 1
    assert all(start.returncode == 0 for start in starts)


def test_a_file_that_others_can_read_is_closed_and_told(tmp_path: Path) -> None:
    path = obtain(tmp_path).path
    path.chmod(0o644)
    assert obtain(tmp_path).was_exposed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not obtain(tmp_path).was_exposed


def test_a_start_killed_before_writing_is_healed(tmp_path: Path) -> None:
    (tmp_path / "admin.key").touch(mode=0o600)
    assert obtain(tmp_path, generate=lambda: "x" * 32).value == "sk-hodios-" + "x" * 32


def test_a_key_written_by_hand_is_taken(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("my-own-key\n")
    assert obtain(tmp_path).value == "my-own-key"


@pytest.mark.parametrize("content", ["two words\n", "schlüssel\n", "a\0b\n"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "admin.key").write_text(content)
    with pytest.raises(ConfigError, match="holds no key"):
        obtain(tmp_path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "admin.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be kept"):
        obtain(tmp_path)


def test_a_home_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(ConfigError, match="Set HODIOS_ADMIN_KEY"):
        obtain(tmp_path / "home")


@pytest.mark.parametrize(
    "key",
    [
        "admin",
        "sk-1234",
        "changeme",
        "changemechangemechangeme",
        "changeme-please-changeme-please",
        "a" * 64,
        "ab" * 32,
        "abc123" * 8,
        "123456789012345678901234",
        "abcdefghijklmnopqrstuvwxyz",
        "zyxwvutsrqponmlkjihgfedcba",
        "qwertyuiopasdfghjklzxcvbnm",
        "sk-hodios-admin-secret-key-token",
        "password-password-password-1",
        "YOUR_API_KEY_YOUR_API_KEY_HERE",
        "sk-hodios-" + "0" * 40,
        "x7Kp2mQ9vL4nR8tW1zB5cD3",
    ],
)
def test_weak_keys_are_known(key: str) -> None:
    assert weakness_of(key) is not None


@given(st.integers())
def test_random_keys_are_strong(seed: int) -> None:
    source = random.Random(seed)
    assert weakness_of(source.randbytes(16).hex()) is None
    assert weakness_of("".join(source.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=24))) is None
