"""What admins do with engines: add, check, give another key, remove."""

import re

from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from finetune_site.common.errors import UserError
from finetune_site.common.outbound import check_url
from finetune_site.common.sealing import seal
from finetune_site.team.models import ApiKey, Member
from finetune_site.team.services import hash_secret, record
from jobs.engines.base import EngineTroubleError
from jobs.engines.registry import LOCAL, engine_of
from jobs.engines.remote import RemoteEngine
from jobs.engines.strays import unheard
from jobs.models import EngineSetting, Job, Snapshot
from jobs.selectors.base_models import find_base_model

Kind = EngineSetting.Kind
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
# A header can carry these characters.
KEY = re.compile(r"[!-~]{1,500}")


def add_engine(
    *,
    member: Member | None,
    name: str,
    kind: str = Kind.REMOTE,
    url: str = "",
    key: str = "",
    allow_private: bool = False,
) -> EngineSetting:
    """Adds an engine. Raises UserError, which names the field at fault.

    Whether the engine answers is found out by `check_engine`.
    """
    name, url, key = name.strip(), url.strip().rstrip("/"), key.strip()
    check_name(name)
    if kind == Kind.REMOTE:
        check_base_url(url, allow_private=allow_private)
        check_key(key)
    elif kind != Kind.LOCAL:
        raise UserError(f"There is no kind {kind}; say local or remote.", field="kind")
    elif url or key:
        raise UserError(
            "An engine of this machine has no address and no key. Leave them out.",
            field="url" if url else "key",
        )
    setting = EngineSetting(
        name=name,
        kind=kind,
        url=url,
        sealed_key=seal(key) if key else "",
        allow_private=allow_private and kind == Kind.REMOTE,
        created_by=member,
    )
    try:
        with transaction.atomic():
            setting.save()
            record(member=member, action="engine.add", subject=name, kind=kind, url=url)
    except IntegrityError:
        raise name_taken(name) from None
    return setting


def check_name(name: str) -> None:
    """Raises UserError if an engine cannot have the name."""
    if not NAME.fullmatch(name):
        raise UserError(
            "A name has small letters, digits and hyphens, 40 at most, for example "
            "gpu-lab.",
            field="name",
        )
    if find_base_model(name):
        raise UserError(
            f"{name} is a base model, and clients of old name models where engines "
            "stand. Choose another name.",
            field="name",
        )
    if name == LOCAL.name or EngineSetting.objects.filter(name=name).exists():
        raise name_taken(name)


def name_taken(name: str) -> UserError:
    """Returns the error for a name that another engine has."""
    return UserError(
        f"There is an engine {name} already. Choose another name.",
        field="name",
        link=f"{reverse('engines')}#engine-{name}",
    )


def check_base_url(url: str, *, allow_private: bool) -> None:
    """Raises UserError if the address cannot be that of another server's API."""
    check_url(url, allow_private=allow_private)
    if not url.endswith("/v1") or "?" in url or "#" in url:
        raise UserError(
            "The address is the client's base URL and ends in /v1, for example "
            "https://lab.example.org/v1.",
            field="url",
        )


def check_key(key: str) -> None:
    """Raises UserError if this cannot be a key of another server."""
    if not KEY.fullmatch(key):
        raise UserError(
            "Enter an API key of the other server, exactly as it showed it. A member "
            "there makes one on the Team page.",
            field="key",
        )
    if ApiKey.objects.filter(key_hash=hash_secret(key)).exists():
        raise UserError(
            "This key opens this very site. Make one on the other server.", field="key"
        )


def change_key(*, member: Member | None, name: str, key: str) -> EngineSetting:
    """Gives an engine another key. Jobs that wait for that go on by themselves."""
    key = key.strip()
    setting = row_of(name)
    if setting.kind != Kind.REMOTE:
        raise UserError(f"{name} is this machine, and needs no key.", field="key")
    check_key(key)
    with transaction.atomic():
        EngineSetting.objects.filter(pk=setting.pk).update(sealed_key=seal(key))
        record(member=member, action="engine.key", subject=name)
    return row_of(name)


def check_engine(*, name: str) -> str:
    """Asks an engine for all that jobs will need of it, and returns good news.

    Raises UserError, which says what is wrong.
    """
    if name == LOCAL.name:
        return "local is this machine: it answers as long as this site runs."
    setting = row_of(name)
    engine = engine_of(setting)
    if not isinstance(engine, RemoteEngine):
        return f"{name} is this machine: it answers as long as this site runs."
    rows = EngineSetting.objects.filter(pk=setting.pk)
    try:
        engine.check()
    except EngineTroubleError as error:
        rows.update(trouble=error.message)
        raise
    rows.update(trouble="", last_answer_at=timezone.now())
    return f"{name} answers, takes the key and can do all that jobs need."


def remove_engine(*, member: Member | None, name: str) -> str:
    """Removes an engine, and returns in words what is lost by it.

    Raises UserError if it has jobs that have not ended.
    """
    if name == LOCAL.name:
        raise UserError("local is this machine, which is always there.")
    with transaction.atomic():
        setting = EngineSetting.objects.select_for_update().filter(name=name).first()
        if setting is None:
            raise no_engine(name)
        unfinished = Job.objects.filter(engine=name).exclude(status__in=Job.FINAL)
        if job := unfinished.first():
            raise UserError(
                f"{name} has jobs that have not ended, such as {job}. Stop them first."
            )
        setting.delete()
        record(member=member, action="engine.remove", subject=name)
    if setting.kind == Kind.LOCAL:
        return f"{name} is removed. Its snapshots are on this machine and stay."
    return f"{name} is removed. {loss_by_removal(name)}".strip()


def loss_by_removal(name: str) -> str:
    """Returns in words what is lost if another server is removed."""
    return " ".join(filter(None, [lost_snapshots(name), lost_sight(name)]))


def lost_snapshots(name: str) -> str:
    """Returns in words how many snapshots lie on the engine."""
    num = Snapshot.objects.filter(job__engine=name).exclude(job__far_uid="").count()
    if not num:
        return ""
    them = "1 snapshot lies" if num == 1 else f"{num:,} snapshots lie"
    return (
        f"{them} on it and cannot be asked from here any more, unless it is added "
        "again under the same name. Nothing is deleted there."
    )


def lost_sight(name: str) -> str:
    """Returns in words how many jobs ended here that may go on there.

    That happens if a job is stopped while the engine is away.
    """
    num = unheard(name).exclude(far_uid="").count()
    if not num:
        return ""
    them = "1 job has" if num == 1 else f"{num:,} jobs have"
    return (
        f"{them} ended here without its word, and may go on there: look there, since "
        "this site stops nothing on it any more."
    )


def row_of(name: str) -> EngineSetting:
    """Returns the row of an engine. Raises UserError if there is none."""
    setting = EngineSetting.objects.filter(name=name).first()
    if setting is None:
        raise no_engine(name)
    return setting


def no_engine(name: str) -> UserError:
    """Returns the error for an engine that is not there."""
    return UserError(f"There is no engine {name}. It may have been removed.")
