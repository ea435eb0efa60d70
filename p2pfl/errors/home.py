"""The home directory and its keys: what a disk, a key file or an earlier `init` can do to a person."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, IntegrityError, LocalFault, LocalProtocolError


class HomeMissing(ConfigurationError):
    """There is no home at {path}."""

    code = "P2P-HOME-001"
    likely = ("init has not been run on this machine", "--home or P2PFL_HOME names another directory")
    command = "p2pfl init --name NAME --home {path}"


class HomeElsewhere(ConfigurationError):
    """There is no home at {path}, but one at {nearest}."""

    code = "P2P-HOME-016"
    likely = ("the path ends a folder too early, or a folder too late", "it is mistyped")
    command = "p2pfl status --home {nearest}"


class HomeExists(ConfigurationError):
    """{path} is not empty, and init never overwrites."""

    code = "P2P-HOME-002"
    likely = (
        "init has been run here already (init --card writes its card once more)",
        "--home or P2PFL_HOME names a directory of something else",
        "an init was interrupted here: without its keyslots nothing in it can be opened: move it away",
    )
    command = "p2pfl status --home {path}"


class HomeBusy(LocalFault):
    """Another process is at work in the home {path}."""

    code = "P2P-HOME-003"
    likely = ("join or sum is already running with this home", "a container or a service manager started it twice")
    command = "p2pfl status --home {path}"


class HomeOpenToOthers(ConfigurationError):
    """Other users of this machine can enter {path}."""

    code = "P2P-HOME-004"
    likely = ("the directory was copied or restored without its modes", "chmod was run on it")
    command = "chmod -R go-rwx {path}"


class HomeOfAnotherUser(ConfigurationError):
    """The home {path} belongs to {owner}, who could not read what {user} would write there. Run this as {owner}."""

    code = "P2P-HOME-017"
    likely = ("the command was run by sudo", "the directory was copied or restored as another user")
    command = "sudo -u {owner} p2pfl status --home {path}"


class ItemDamaged(IntegrityError):
    """{item} in the home of {name} is not what this home wrote."""

    code = "P2P-HOME-005"
    likely = ("the file was changed or cut", "it was copied from another home or under another name")
    command = "p2pfl ledger verify --home {path}"


class DiskFull(LocalFault):
    """The disk is full: {path} was not written, and what was there before still is."""

    code = "P2P-HOME-006"
    likely = ("the file system has no free space", "a quota is used up")
    command = "df -h {folder}"


class DiskRefused(LocalFault):
    """The system refused to {step} {path}."""

    code = "P2P-HOME-007"
    likely = (
        "the directory belongs to another user",
        "the file system is mounted read-only",
        "this process may open no more files (ulimit -n)",
        "the disk is failing",
    )
    command = "ls -ld {folder} {path}"


class SyncFailed(LocalFault):
    """The disk did not confirm {path}, so this process stops: what the kernel still holds of it is unknown."""

    code = "P2P-HOME-008"
    likely = ("the disk is failing or was detached", "a network file system lost its server")
    command = "p2pfl ledger verify --home {home}"


class NotInLayout(LocalProtocolError):
    """{item} has no row in the home's layout table, so it cannot be stored."""

    code = "P2P-HOME-009"
    likely = ("a name was misspelt in this program",)
    command = "p2pfl --version"


class HomeIsReadOnly(LocalProtocolError):
    """{item} was to be written through a home that was opened for reading."""

    code = "P2P-HOME-010"
    likely = ("a command that only shows things tried to write",)
    command = "p2pfl --version"


class SeveralStudies(ConfigurationError):
    """The home {path} takes part in several studies, and nothing says which one is meant."""

    code = "P2P-HOME-011"
    likely = ("a second study was begun in it: name the one that is meant by its file, --peers FILE",)
    command = "p2pfl studies --home {path}"


class NoSuchStudy(ConfigurationError):
    """The home {path} takes part in no study under {source}."""

    code = "P2P-HOME-012"
    likely = (
        "the file is another federation's: of a home of one study, leave --peers out",
        "it was edited after its study had begun: name the file that was agreed on",
    )
    command = "p2pfl studies --home {path}"


class KeyslotsDamaged(IntegrityError):
    """The keyslots file {path} cannot be read."""

    code = "P2P-KEY-001"
    likely = ("the file was changed or cut", "the home was made by a newer version")
    command = "p2pfl --version"


class KeyDoesNotOpen(IntegrityError):
    """The {kind} from {where} does not open the home of {name}."""

    code = "P2P-KEY-002"
    likely = ("it belongs to another home", "it was mistyped or replaced", "the keyslots file was changed")
    command = "ls -l {where}"


class KeyFileMissing(LocalFault):
    """The key file {path} is not there."""

    code = "P2P-KEY-003"
    likely = ("it lies elsewhere or was not restored with the home", "XDG_CONFIG_HOME or HOME is not as at init")
    command = "ls -l {folder}"


class KeyFileOpenToOthers(IntegrityError):
    """Other users of this machine can read the key file {path}."""

    code = "P2P-KEY-004"
    likely = ("it was copied without its mode", "chmod was run on it")
    command = "chmod 600 {path}"


class KeyFileExists(ConfigurationError):
    """A key file is already at {path}, and init never overwrites."""

    code = "P2P-KEY-005"
    likely = (
        "it opens another home, so name a file of its own: --key-file FILE at init, --new-key-file FILE at keys",
        "its home was removed, or an earlier init was interrupted: the file opens nothing any more, move it away",
    )
    command = "ls -l {path}"


class KeyMalformed(ConfigurationError):
    """What {where} holds is not a key."""

    code = "P2P-KEY-006"
    likely = ("the file is not one that init wrote", "a word of the recovery key was mistyped", "the content was cut")
    command = "ls -l {where}"


class CredentialMissing(LocalFault):
    """systemd handed over no credential called p2pfl."""

    code = "P2P-KEY-007"
    likely = ("the unit has no LoadCredential= line for it", "the command was started outside of its unit")
    command = "systemd-creds list"


class KeyCommandFailed(LocalFault):
    """The key command {where} gave no key."""

    code = "P2P-KEY-008"
    likely = ("it is not installed for this user", "the key service that it asks is locked or down")
    command = "{where}"


class NoFittingKeyslot(ConfigurationError):
    """The home of {name} has no keyslot for what was given."""

    code = "P2P-KEY-009"
    likely = ("the home was made with another kind of key", "a pass phrase or key command has to be named")
    command = "p2pfl status --help"


class PassPhraseTooShort(ConfigurationError):
    """The pass phrase has fewer than {least} characters."""

    code = "P2P-KEY-010"
    likely = ("a word was given where a phrase is wanted",)
    command = "p2pfl init --help"


class KeyFileInsideHome(ConfigurationError):
    """A key file inside the home {home} would be stolen together with it."""

    code = "P2P-KEY-011"
    likely = ("--key-file names a place under --home",)
    command = "p2pfl init --help"


class NoSuchKeyslot(ConfigurationError):
    """The home of {name} has no keyslot {which}."""

    code = "P2P-KEY-012"
    likely = ("it was removed or rotated meanwhile", "the name of a slot is the 8 digits that keys list shows")
    command = "p2pfl keys list --home {home}"


class LastKeyslot(ConfigurationError):
    """That is the only key that opens the home of {name}: without it nobody does, ever."""

    code = "P2P-KEY-013"
    likely = ("another key was to be added first",)
    command = "p2pfl keys add --help"


class NoOtherKeyShown(ConfigurationError):
    """No key that was given here opens the home of {name} without slot {slot}: that another one does is not shown."""

    code = "P2P-KEY-015"
    likely = (
        "the home was opened with the key that is to go; open it with one that stays",
        "a rotation was cut short: the key file still holds the old key, and the new one lies beside it",
    )
    command = "p2pfl keys remove --help"


class TooManyKeyslots(ConfigurationError):
    """The home of {name} has {most} keyslots, and takes no more."""

    code = "P2P-KEY-014"
    likely = ("keys were added and the old ones never removed",)
    command = "p2pfl keys remove --help"


class KeyFileUnfinished(ConfigurationError):
    """A new key of {path} would be written over a key that is in use."""

    code = "P2P-KEY-017"
    likely = ("a rotation was cut short, and what it left was made a key file of its own",)
    command = "p2pfl keys list --help"


class WordsUnseen(LocalFault):
    """The recovery words could not be shown, so they open nothing, and every other key opens {home} as before."""

    code = "P2P-KEY-016"
    likely = ("stdout leads into a pipe whose reader has left", "stdout is closed", "it is a file on a full disk")
    command = "p2pfl keys add --home {home} --new-recovery-words"


class KeptLonger(ConfigurationError):
    """It is not time to let this go: {what}."""

    code = "P2P-HOME-013"
    likely = ("its years, counted from the last entry of the study, are not over", "six are the least by law")
    command = "p2pfl retention show"


class KeptForever(ConfigurationError):
    """No command removes a ledger: what else is deleted is still verified by it."""

    code = "P2P-HOME-014"
    likely = ("the disk is to be emptied: export the ledger, and remove the whole home once its years are over",)
    command = "p2pfl ledger export --help"


class WithdrawalsLost(IntegrityError):
    """The home {home} no longer knows all those who withdrew their consent: nothing is computed of its records."""

    code = "P2P-HOME-018"
    likely = (
        "accounts/withdrawn was removed, or an older copy of it was put back: give all who withdrew once more",
        "the disk is failing",
    )
    command = "p2pfl withdraw --patients names.txt --home {home}"


class AnswerLost(IntegrityError):
    """A sum is final, and its number is lost from the home of {name}: from now on the same command sums anew."""

    code = "P2P-HOME-015"
    likely = (
        "state/answer, or what it is made of in state/sums, was changed or removed, after this site died untold",
        "the disk is failing",
    )
    command = "p2pfl ledger show --home {path}"
