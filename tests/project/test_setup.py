"""Set-up does what is missing and nothing else, goes on where it was interrupted, and lists exactly
what a machine lacks.

Most of these run the real script in a small copy of the project, with a stand-in for Python that
records what is asked of it: it is the script's decisions that are tested here. That the whole of it
works on a bare machine is shown by running it there.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT, as_user

# What the script and its stand-in use, and then the programs by which packages are known to be
# there.
TOOLS = """bash cat chmod cut dirname env find flock grep ln ls mkdir mv readlink rm sed setpriv sh sha256sum sleep sort stat tail tee touch uname
xargs gcc ldconfig unshare ip iptables mnexec make flex bison bc xz patch tshark git nft ping haproxy nginx squid varnishd
slirp4netns"""  # noqa: E501
ATLAS = """apache2 caddy curl danted h2load h2o hey hitch lighttpd microsocks nghttpx node pgbouncer privoxy psql siege socat sslh strace
stunnel4 tinyproxy traffic_server wget wrk"""  # noqa: E501
PYTHON = """#!/bin/sh
# Stands in for Python: answers what set-up asks of it, and notes it in the journal.
self=$0
case "$*" in
    *"-m venv"*)
        for folder; do :; done
        echo venv >>"$JOURNAL"
        mkdir -p "$folder/bin" && ln -sf "$(readlink -f "$self")" "$folder/bin/python" && echo "$folder" >"$folder/bin/activate"
        [ "$BREAK" != venv ] || exit 1 ;;
    *"-m pip --version"*) [ "$BREAK" != pip-gone ] ;;
    *"-m pip install"*)
        echo "pip $*" | sed 's/ .*\\(-e\\)/ \\1/' >>"$JOURNAL"
        [ "$BREAK" != hang ] || sleep 60
        [ "$BREAK" != pip ] || { echo 'ERROR: no room' && exit 1; }
        ln -sf "$(readlink -f "$self")" "$(dirname "$self")/twlab" ;;
    "kernel build")
        echo kernel >>"$JOURNAL"
        [ "$BREAK" != kernel ] || exit 1
        touch "$KERNEL" && chmod +x "$KERNEL" && echo "$KERNEL" ;;
esac
"""  # noqa: E501


class Project:
    """A small copy of the project, and a machine that has every package as long as its programs are
    in `tools`.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        self.journal = folder / "journal"
        self.kernel = folder / "linux"
        self.tools = folder / "tools"
        self.python = folder / "python3"
        shutil.copytree(ROOT / "setup", self.root / "setup")
        packages = self.root / "setup" / "packages.txt"  # what no program shows, as sources of kernels, is there
        packages.write_text(re.sub(r"\| (?:ls|\[\[ -e) /usr/[^|]*\|", "| true |", packages.read_text()))
        shutil.copytree(ROOT / "twlab" / "engines" / "kernel", self.root / "twlab" / "engines" / "kernel")
        shutil.copy(ROOT / "pyproject.toml", self.root)
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)
        self.tools.mkdir()
        for name in TOOLS.split():
            if path := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
                (self.tools / name).symlink_to(path)
        (self.tools / "go").symlink_to("/bin/true")  # compiles nothing

    def environment(self, **more: str) -> dict[str, str]:
        here = {"JOURNAL": self.journal, "KERNEL": self.kernel, "PYTHON": self.python, "PATH": self.tools}
        return {name: str(value) for name, value in here.items()} | {"BREAK": "", "HOME": "/nonexistent"} | more

    def command(self, level: str = "lab") -> list[str]:
        # The machine's own administration programs stay out: the script adds their folders to the
        # path by itself.
        return [str(self.root / "setup" / "install.sh"), level]

    def set_up(self, level: str = "lab", user: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        command = [*as_user(user), *self.command(level)]
        here = self.environment(**more)
        return subprocess.run(
            command, capture_output=True, text=True, env=here, stdin=subprocess.DEVNULL, timeout=60, check=False
        )

    def done(self) -> list[str]:
        """What has been done since this was last asked: venv, pip, kernel."""
        text = self.journal.read_text() if self.journal.exists() else ""
        self.journal.unlink(missing_ok=True)
        return [line.split()[0] for line in text.splitlines()]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    if not all((made.tools / name).exists() for name in ("flex", "gcc", "mnexec", "haproxy", "nginx", "squid")):
        pytest.skip("the Debian packages are not installed: make test")
    return made


EVERYTHING = ["venv", "pip", "kernel"] if os.uname().machine == "x86_64" else ["venv", "pip"]


def test_the_first_run_does_everything_and_the_second_nothing_in_under_a_second(project: Project) -> None:
    """A virtual environment, the packages, the kernel; then a stamp, and silence. The second is of
    processor time.
    """
    first = project.set_up()
    assert (first.returncode, project.done()) == (0, EVERYTHING), first.stderr
    start_s = sum(os.times()[2:4])
    second = project.set_up()
    assert sum(os.times()[2:4]) - start_s < 1
    assert (second.returncode, second.stdout, second.stderr, project.done()) == (0, "", "", [])


def test_another_processor_has_no_lab_kernel(project: Project) -> None:
    """On arm64 set-up says so in one line, asks for no package of the lab kernel's, and is ready."""
    (project.tools / "uname").unlink()
    (project.tools / "uname").write_text("#!/bin/sh\necho aarch64\n")
    (project.tools / "uname").chmod(0o755)
    for program in ("make", "flex", "bison", "bc", "xz", "patch"):
        (project.tools / program).unlink(missing_ok=True)
    done = project.set_up()
    assert (done.returncode, project.done()) == (0, ["venv", "pip"]), done.stderr
    assert done.stderr.count("the lab kernel is for x86-64, and this processor is aarch64") == 1
    assert project.set_up().stderr == ""


def test_a_set_up_for_tests_serves_the_labs_but_not_the_other_way_round(project: Project) -> None:
    """`make test` after `make lab` adds what tests need; `make lab` after `make test` has nothing
    to do.
    """
    for program in ("shellcheck", "chromium", "ab", "busybox", "tcptrace", "pasta", *ATLAS.split()):
        (project.tools / program).symlink_to("/bin/true")
    project.set_up("lab")
    assert project.done() == EVERYTHING
    assert project.set_up("test").returncode == 0
    assert "pip" in project.done()
    assert project.set_up("lab").returncode == 0
    assert project.done() == []


@pytest.mark.parametrize("name", ["pyproject.toml", "setup/packages.txt", "twlab/engines/kernel/lab.config"])
def test_changed_needs_are_seen_by_their_content(project: Project, name: str) -> None:
    """A changed dependency, package or kernel option sets up again, and a changed time of
    modification does not.
    """
    file = project.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    project.set_up()
    project.done()
    os.utime(file, (0, 0))
    project.set_up()
    assert project.done() == []
    file.write_text(file.read_text() + "\n# changed\n")
    project.set_up()
    assert "pip" in project.done()


@pytest.mark.parametrize("step", ["venv", "pip", "kernel"])
def test_what_failed_is_named_and_the_next_run_repairs_it(project: Project, step: str) -> None:
    """Any step may fail: there is a message and no stamp; the next run ends well."""
    if step not in EVERYTHING:
        pytest.skip("the lab kernel is for x86-64")
    broken = project.set_up(BREAK=step)
    assert broken.returncode != 0
    assert "Traceback" not in broken.stderr
    project.done()
    repaired = project.set_up()
    assert repaired.returncode == 0, repaired.stderr
    assert project.done()
    assert project.set_up().stderr == ""


def programs_of(group: int) -> set[str]:
    """The programs that run in a process group."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if int(fields.split()[2]) == group:
            found.add(name)
    return found


def test_an_interrupted_set_up_goes_on_at_the_next_run(project: Project) -> None:
    """Ctrl-C while pip works: exit status 130, no stamp, and the next run does the rest."""
    process = subprocess.Popen(
        project.command(),
        env=project.environment(BREAK="hang"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # Not a moment before: a shell that is just starting a program would wait for its end first.
    while "sleep" not in programs_of(process.pid):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in said
    project.done()
    assert project.set_up().returncode == 0
    assert project.done() == EVERYTHING[1:]


def test_a_broken_or_moved_environment_is_made_anew(project: Project) -> None:
    """An environment without pip, or one that was moved with its project, is not trusted."""
    project.set_up()
    project.done()
    moved = project.root.with_name("elsewhere")
    project.root.rename(moved)
    project.root = moved
    assert project.set_up().returncode == 0
    assert project.done() == EVERYTHING


def test_a_lost_kernel_is_built_again(project: Project) -> None:
    """The stamp remembers where the lab kernel is; where it no longer is, set-up looks after it."""
    if "kernel" not in EVERYTHING:
        pytest.skip("the lab kernel is for x86-64")
    project.set_up()
    project.done()
    project.kernel.unlink()
    assert project.set_up().returncode == 0
    assert "kernel" in project.done()


def test_two_at_once_do_the_work_once(project: Project) -> None:
    """The second waits for the first and then has nothing to do."""
    both = [subprocess.Popen(project.command(), env=project.environment(), stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=30) for process in both] == [0, 0]
    assert project.done() == EVERYTHING


def test_without_apt_the_missing_packages_are_listed_exactly(project: Project) -> None:
    """Where there is no apt-get: one message, exactly what is missing, and exit status 3; nothing
    has been made.
    """
    for name in ("flex", "mnexec"):
        (project.tools / name).unlink()
    refused = project.set_up()
    assert refused.returncode == 3
    wanted = {"mininet", "flex"} if "kernel" in EVERYTHING else {"mininet"}
    assert set(re.findall(r"^(\S+)   +\S", refused.stderr, re.MULTILINE)) == wanted, refused.stderr
    assert "remedy" in refused.stderr
    assert not (project.root / ".venv").exists()


def test_without_the_right_to_install_the_command_for_root_is_named(project: Project, ordinary_user: str) -> None:
    """An ordinary user without sudo is told what root has to type."""
    (project.tools / "apt-get").symlink_to("/bin/false")
    (project.tools / "mnexec").unlink()
    for path in (project.root, *project.root.rglob("*")):
        path.chmod(0o777)
    open_up(project.root)
    refused = project.set_up(user=ordinary_user)
    assert refused.returncode == 3, refused.stderr
    assert "as root: apt-get install --no-install-recommends mininet\n" in refused.stderr


APT = """#!/bin/sh
# Stands in for apt-get: asks the policy as dpkg's scripts would, then "installs".
case "$*" in *--simulate*) exit 0 ;; esac
for name in haproxy nginx.service cron; do
    if [ -e "$POLICY_RC_D" ]; then "$POLICY_RC_D" $name start; echo "$name $?"; else echo "$name allowed"; fi
done >>"$JOURNAL"
[ "$BREAK" != hang ] || sleep 60
for name in haproxy nginx; do ln -sf /bin/true "$TOOLS/$name"; done
"""
NOT_STARTED = ["haproxy 101", "nginx.service 101", "cron 0"]
SWITCHED_OFF = ["haproxy disable", "nginx disable"]


@pytest.fixture
def machine(project: Project) -> tuple[dict[str, str], Path]:
    """A machine without haproxy and nginx, with squid, and with an apt-get: what `set_up` is to be
    told, and where its policy-rc.d is.
    """
    policy = project.root.with_name("policy-rc.d")
    packages = project.root / "setup" / "packages.txt"
    for name in ("haproxy", "nginx"):
        (project.tools / name).unlink()
        packages.write_text(packages.read_text().replace(f"command -v {name} ", f'test -e "$TOOLS/{name}" '))
    (project.tools / "sudo").write_text('#!/bin/sh\n[ "$1" != -n ] || shift\nexec "$@"\n')
    (project.tools / "update-rc.d").write_text('#!/bin/sh\necho "$*" >>"$JOURNAL"\n')
    (project.tools / "dpkg").write_text("#!/bin/sh\n")
    (project.tools / "apt-get").write_text(APT)
    for name in ("sudo", "update-rc.d", "dpkg", "apt-get"):
        (project.tools / name).chmod(0o755)
    (project.tools / "true").symlink_to("/bin/true")
    return {"POLICY_RC_D": str(policy), "TOOLS": str(project.tools)}, policy


def test_servers_that_set_up_installs_do_not_start(project: Project, machine: tuple[dict[str, str], Path]) -> None:
    """While apt-get works, only what it installs for labs may not start; then it is switched off
    for the next boot, too. No policy is left.
    """
    told, policy = machine
    finished = project.set_up(**told)
    assert finished.returncode == 0, finished.stderr
    assert project.journal.read_text().splitlines()[:5] == [*NOT_STARTED, *SWITCHED_OFF]
    assert not policy.exists()


@pytest.mark.parametrize("name", ["h2o", "mininet"])
def test_what_a_distribution_lacks_is_left_out_unless_a_lab_needs_it(
    project: Project, machine: tuple[dict[str, str], Path], name: str
) -> None:
    """Debian 13 has no h2o: the atlas is set up without, and says so. A lab's own package is named as
    missing. The list of packages is fetched once.
    """
    told, _ = machine
    stub = project.tools / "apt-get"
    unknown = f'*{name}*) echo "E: Unable to locate package {name}" && exit 100'
    fetched = '*update*) echo update >>"$JOURNAL" && exit'
    stub.write_text(APT.replace('case "$*" in ', f'case "$*" in {unknown} ;; {fetched} ;; '))
    for program in ATLAS.split():
        (project.tools / program).symlink_to("/bin/true")
    (project.tools / {"h2o": "h2o", "mininet": "mnexec"}[name]).unlink()
    finished = project.set_up("atlas", **told)
    assert finished.returncode == (0 if name == "h2o" else 3), finished.stderr
    assert ("does not have: h2o" in finished.stderr) == (name == "h2o")
    assert project.done().count("update") == 1
    assert project.set_up("atlas", **told).stderr == "" or name == "mininet"


def test_a_package_with_another_name_is_found(project: Project, machine: tuple[dict[str, str], Path]) -> None:
    """Debian 14 calls varnish vinyl-cache; the program is the same, and shall not start either."""
    told, _ = machine
    renamed = "*varnish*) echo \"E: Package 'varnish' has no installation candidate\" && exit 100"
    installs = '*--simulate*) ;; *vinyl-cache*) ln -sf /bin/true "$TOOLS/varnishd"'
    stub = project.tools / "apt-get"
    stub.write_text(APT.replace('case "$*" in ', f'case "$*" in {renamed} ;; {installs} ;; '))
    packages = project.root / "setup" / "packages.txt"
    packages.write_text(packages.read_text().replace("command -v varnishd ", 'test -e "$TOOLS/varnishd"'))
    (project.tools / "varnishd").unlink(missing_ok=True)
    finished = project.set_up(**told)
    assert finished.returncode == 0, finished.stderr
    assert {"vinyl-cache disable", "vinylncsa disable"} <= set(project.journal.read_text().splitlines())


def test_the_administrator_s_policy_stays(project: Project, machine: tuple[dict[str, str], Path]) -> None:
    """A policy-rc.d that is there decides, and is the same afterwards."""
    told, policy = machine
    policy.write_text("#!/bin/sh\nexit 104\n")
    policy.chmod(0o755)
    assert project.set_up(**told).returncode == 0
    assert project.journal.read_text().splitlines()[:3] == ["haproxy 104", "nginx.service 104", "cron 104"]
    assert policy.read_text() == "#!/bin/sh\nexit 104\n"


def test_an_interrupted_installation_leaves_no_policy(project: Project, machine: tuple[dict[str, str], Path]) -> None:
    """Ctrl-C during apt-get: no policy-rc.d is left; killed, one is left that allows everything,
    and the next set-up removes it.
    """
    told, policy = machine
    for number in (signal.SIGINT, signal.SIGKILL):
        environment = project.environment(BREAK="hang", **told)
        process = subprocess.Popen(
            project.command(), env=environment, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while "cron" not in (project.journal.read_text() if project.journal.exists() else ""):
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, number)
        process.wait(timeout=10)
        project.journal.unlink()
        if number == signal.SIGINT:
            assert not policy.exists()
    assert subprocess.run([policy, "haproxy", "start"], check=False).returncode == 0
    assert project.set_up(**told).returncode == 0
    assert not policy.exists()


def test_an_ordinary_user_runs_what_root_has_set_up_and_may_not_change_it(project: Project, ordinary_user: str) -> None:
    """A checkout that cannot be written: ready where its owner has set it up, and one clear message
    where not.
    """
    open_up(project.root)
    project.root.chmod(0o555)
    refused = project.set_up(user=ordinary_user)
    assert refused.returncode == 3
    assert "not set up" in refused.stderr
    project.root.chmod(0o755)
    project.set_up()
    project.root.chmod(0o555)
    ready = project.set_up(user=ordinary_user)
    assert (ready.returncode, ready.stderr) == (0, "")


def test_an_old_python_is_refused(project: Project) -> None:
    """Python before 3.11 will not do, and the message says how to name another."""
    project.python.write_text('#!/bin/sh\ncase "$*" in *version_info*) exit 1 ;; esac\n')
    refused = project.set_up()
    assert refused.returncode == 3
    assert "make PYTHON=" in refused.stderr


def test_an_unknown_level_is_a_usage_error(project: Project) -> None:
    """setup/install.sh takes lab or test."""
    assert project.set_up("everything").returncode == 2


def test_each_package_has_a_probe_and_a_reason() -> None:
    """In setup/packages.txt: package, how to see that it is there, what for; no package twice."""
    lines = [
        line for line in (ROOT / "setup" / "packages.txt").read_text().splitlines() if line and line[0] not in "#["
    ]
    rows = [[field.strip() for field in line.split("|")] for line in lines]
    assert all(len(row) == 3 and all(row) for row in rows)
    assert len({row[0] for row in rows}) == len(rows)


def test_each_dependency_has_its_one_reason() -> None:
    """In pyproject.toml every dependency stands on a line of its own, with a comment that says what
    it is for.
    """
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    for dependency in (
        *project["dependencies"],
        *(name for names in project["optional-dependencies"].values() for name in names),
    ):
        assert re.search(rf'^    "{re.escape(dependency)}", +# \w.+', text, re.MULTILINE), dependency


def test_the_installed_version_is_the_project_s() -> None:
    """The command `twlab` of this environment is this checkout."""
    done = subprocess.run(
        [sys.executable, "-c", "import twlab; print(twlab.__file__)"],
        capture_output=True,
        text=True,
        cwd="/",
        check=True,
    )
    assert Path(done.stdout.strip()) == ROOT / "twlab" / "__init__.py"


def open_up(folder: Path) -> None:
    """Let everybody reach `folder`: pytest keeps its temporary folders to itself."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o005:
            parent.chmod(parent.stat().st_mode | 0o055)
