"""Who is let in to a study: see it before anything depends on it.

in: Study    out: Login
"""

from dataclasses import dataclass

from icf_tools.access.credential import Ask
from icf_tools.access.source import NotAllowed, NotThere, Opener
from icf_tools.client.site import NoStudy, Study, StudyDenied, is_there
from icf_tools.model.visit import STUDY_SETTINGS


@dataclass(frozen=True, slots=True)
class Login:
    """Who is let in."""

    study: str
    store_url: str
    realm: str  #: as DataLad has it; empty where none is asked for, as the following ones
    user: str  #: empty with a token, too
    credential: str  #: the name that DataLad knows it by


def login(study: Study, ask: Ask | None = None) -> Login:
    """Have a study's server see the credential; ask for it where none is known.

    Raises NoStudy, StudyDenied, and what reading a store raises: NoCredential,
    Rejected, Interrupted.
    """
    opener = Opener(ask)
    try:
        opener(f"{study.url}/{STUDY_SETTINGS}").open(0, None).close()
    except NotThere as err:
        if not is_there(study, opener):
            raise NoStudy(study.name, study.store_url) from err
    except NotAllowed as err:
        raise StudyDenied(study.name, study.store_url) from err
    finally:
        opener.close()
    for realm, credential in opener.let_in.items():
        return Login(study.name, study.store_url, realm.name, credential.user, credential.name)
    return Login(study.name, study.store_url, "", "", "")
