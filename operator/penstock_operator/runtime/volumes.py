"""The loop of LustreVolumes: observe (AWS and the claim, side by side), plan, write the status, act.

Slower than that of jobs and apart from it: an AWS call takes a tenth of a second and a file system minutes, and neither may
hold up a job. boto3 blocks, so its calls run in threads. Nothing is remembered that AWS would not tell again, but for answers
that save the next look a search: the id of a file system or task that was just made, and that a deletion was taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from penstock_operator import names
from penstock_operator.api.lustrevolume import VolumeReclaimPolicy
from penstock_operator.cloud.fsx import NOWHERE, CloudError, FileSystem, FSx
from penstock_operator.conditions import difference
from penstock_operator.kube import ApiError, Kube
from penstock_operator.lustrevolume import verdict
from penstock_operator.lustrevolume.claim import LABEL_VOLUME_NAMESPACE, LABEL_VOLUME_UID
from penstock_operator.lustrevolume.events import events
from penstock_operator.lustrevolume.export import tries
from penstock_operator.lustrevolume.observe import FINALIZER, Claim, Observed, Trouble, Volume, volume_from
from penstock_operator.lustrevolume.plan import plan
from penstock_operator.runtime.lister import Lister
from penstock_operator.runtime.objects import Slim
from penstock_operator.runtime.queue import Key
from penstock_operator.runtime.recorder import Recorder
from penstock_operator.runtime.usage import Usage

log = logging.getLogger("penstock.volumes")

BACKOFF_MAX = timedelta(minutes=5)


class VolumeReconciler:
    """Brings one volume forward at a time; any number of workers may call `reconcile` for different keys."""

    def __init__(
        self,
        kube: Kube,
        lister: Lister,
        usage: Usage,
        recorder: Recorder,
        rules: verdict.Rules,
        namespaces: Sequence[str] = (),
    ) -> None:
        self._kube, self._lister, self._usage, self._recorder, self._rules = kube, lister, usage, recorder, rules
        self._namespaces = frozenset(namespaces)
        self._fsx: asyncio.Future[FSx] | None = None
        self._uids: dict[Key, str] = {}
        self._made: dict[str, str] = {}
        self._deleted: dict[str, str] = {}
        self._tasks: dict[str, tuple[str, str]] = {}
        self._troubles: dict[str, tuple[int, Trouble]] = {}
        self._blind: dict[str, int] = {}
        self._zoneless: dict[str, int] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Returns the seconds after which it should be looked at again, or None."""
        body = self._lister.volumes.get(key)
        if body is None:
            await self._forget(key)
            return None
        volume = volume_from(body)
        self._uids[key] = volume.uid
        try:
            observed = await self._observe(key, volume)
        except CloudError as error:
            times = self._blind[volume.uid] = self._blind.get(volume.uid, 0) + 1
            return await self._tell(key, body, volume, self._trouble(volume, error, times))
        self._blind.pop(volume.uid, None)
        decided = plan(observed, datetime.now(UTC), self._rules)
        body = await self._write(key, body, decided.status)
        results = await asyncio.gather(*(self._do(key, body, volume, one) for one in decided.actions), return_exceptions=True)
        for action, result in zip(decided.actions, results, strict=True):
            if isinstance(result, CloudError):
                times = self._troubles[volume.uid][0] + 1 if volume.uid in self._troubles else 1
                self._troubles[volume.uid] = (times, self._trouble(volume, result, times, action))
                return 0.0
            if isinstance(result, BaseException):
                raise result
        if decided.actions:
            self._troubles.pop(volume.uid, None)
        return decided.again.total_seconds() if decided.again is not None else None

    # --- what is --------------------------------------------------------------------------------------------------------------

    async def _observe(self, key: Key, volume: Volume) -> Observed:
        trouble = self._troubles.get(volume.uid)
        told = (volume.spec.file_system_id if volume.spec else None) or volume.status.get("fileSystemId")
        known = told or self._made.get(volume.uid)
        others = self._adopting(key, known) if known else ()
        if volume.deleting and _keeps_all(volume):  # no question to AWS, which may let us in no more
            return Observed(volume, told, claim=await self._claim(volume), used_by=self._users(key), held_by=self._holders(key))
        fsx = await self._client()
        found = await asyncio.to_thread(fsx.describe, known) if known else None
        spec = volume.spec
        paid = spec is not None and spec.create is not None and FINALIZER in volume.finalizers
        if found is None and paid and (known or volume.deleting):
            # Perhaps made by an operator that was killed before it could say so; and one answer of "not found", which AWS may
            # give of what is very new, is not enough to let a paid thing go.
            found = await asyncio.to_thread(fsx.find, volume.uid)
        # A link outlives its repository by a moment, and the status names it as long.
        linked = found is not None and spec is not None and bool(spec.repositories or volume.status.get("repositories"))
        # STS is asked only where a file system was in an account that is known: not on the way to a new one.
        place = NOWHERE if found else await asyncio.to_thread(fsx.place, "account" in volume.status)
        task_id = self._task_id(volume)
        associations, task, (zone, zone_trouble), claim = await asyncio.gather(
            asyncio.to_thread(fsx.associations, found.id) if found and linked else _nothing(()),
            asyncio.to_thread(fsx.task, task_id) if task_id else _nothing(None),
            self._zone(fsx, volume, found),
            self._claim(volume),
        )
        return Observed(
            volume=volume,
            file_system_id=told or (found.id if found else None),  # an answer may be older than the id
            file_system=found,
            place=place,
            deleted=volume.uid in self._deleted,
            zone=zone,
            associations=associations,
            task=task,
            claim=claim,
            used_by=self._users(key),
            held_by=self._holders(key),
            adopted_by=others,
            trouble=trouble[1] if trouble else None,
            zone_trouble=zone_trouble,
        )

    async def _zone(self, fsx: FSx, volume: Volume, found: FileSystem | None) -> tuple[str, Trouble | None]:
        """The file system's zone, which deletion does not need; or why it is not known."""
        if found is None or not found.subnet_id or volume.deleting:
            return "", None
        try:
            zone = await asyncio.to_thread(fsx.zone, found.subnet_id)
        except CloudError as error:
            times = self._zoneless[volume.uid] = self._zoneless.get(volume.uid, 0) + 1
            about = CloudError(error.reason, error.code, f"{error.message} (the zone of subnet {found.subnet_id} is needed)")
            return "", self._trouble(volume, about, times)
        self._zoneless.pop(volume.uid, None)
        return zone, None

    def _task_id(self, volume: Volume) -> str | None:
        export: Mapping[str, Any] = volume.status.get("export") or {}
        token, made = self._tasks.get(volume.uid, ("", ""))
        return export.get("taskId") or (made if token.endswith(f"-export-{tries(export)}") else None)

    def _users(self, key: Key) -> tuple[str, ...]:
        """Jobs (of its namespace) that mount it and are not over."""
        return tuple(name for _, name in self._usage.users(key))

    def _holders(self, key: Key) -> tuple[str, ...]:
        return tuple(name for _, name in self._usage.holders(key))

    def _adopting(self, key: Key, file_system_id: str) -> tuple[str, ...]:
        """Other volumes that name this file system."""
        bodies = ((other, self._lister.volumes.get(other)) for other in self._lister.volumes.known() if other != key)
        return tuple(sorted("/".join(other) for other, body in bodies if body and _adopts(body) == file_system_id))

    async def _claim(self, volume: Volume) -> Claim:
        persistent, claim = await asyncio.gather(
            self._get("PersistentVolume", "", volume.persistent_volume),
            self._get("PersistentVolumeClaim", volume.namespace, volume.name),
        )
        metadata = (claim or {}).get("metadata", {})
        ours = any(one["uid"] == volume.uid for one in metadata.get("ownerReferences") or ())
        label = (persistent or {}).get("metadata", {}).get("labels", {}).get(LABEL_VOLUME_UID)
        return Claim(
            volume="absent" if persistent is None else "ours" if label == volume.uid else "foreign",
            claim="absent" if claim is None else "ours" if ours else "foreign",
            bound=(claim or {}).get("status", {}).get("phase") == "Bound",
            deleting="deletionTimestamp" in metadata,
            uid=metadata.get("uid", ""),
            released=(persistent or {}).get("status", {}).get("phase") == "Released",
        )

    async def _get(self, kind: str, namespace: str, name: str) -> Slim | None:
        try:
            return await self._kube.get(kind, namespace, name)
        except ApiError as error:
            if error.reason == "NotFound":
                return None
            raise

    # --- what is done ---------------------------------------------------------------------------------------------------------

    async def _tell(self, key: Key, body: Slim, volume: Volume, trouble: Trouble) -> float:
        """AWS cannot be asked: only the status says so, with everything else as it was."""
        now = datetime.now(UTC)
        writing = verdict.Writing(volume, now)
        writing.stalled(trouble.reason, trouble.message)
        if not writing.is_true(names.FILE_SYSTEM_AVAILABLE) and not volume.deleting:
            writing.condition(names.FILE_SYSTEM_AVAILABLE, False, trouble.reason, trouble.message)
        writing.phase(writing.status.get("phase", names.VolumePhase.PENDING), trouble.reason)
        await self._write(key, body, writing.status)
        return max(0.1, (trouble.until - now).total_seconds())

    async def _write(self, key: Key, body: Slim, status: dict[str, Any] | None) -> Slim:
        """Patch the difference. Returns the object as it is then."""
        patch = difference(body["status"], status) if status is not None else {}
        if status is None or not patch:
            return body
        metadata = await self._kube.patch_status(names.VOLUME_KIND, *key, body["metadata"]["resourceVersion"], patch)
        self._lister.volumes.wrote(key, body, metadata["metadata"], status)
        for event in events(body["status"], status):
            self._recorder.record(body, event, names.VOLUME_KIND)
        return {**body, "metadata": {**body["metadata"], **metadata["metadata"]}, "status": status}

    async def _do(self, key: Key, body: Slim, volume: Volume, action: verdict.Action) -> None:
        fsx = await self._client()
        match action:
            case verdict.SetFinalizer():
                others = [one for one in volume.finalizers if one != FINALIZER]
                wanted = [*others, FINALIZER] if action.held else others
                version = body["metadata"]["resourceVersion"]
                metadata = await self._kube.set_finalizers(names.VOLUME_KIND, *key, version, wanted)
                self._lister.volumes.wrote(key, body, metadata["metadata"], body["status"])
            case verdict.CreateFileSystem():
                made = await asyncio.to_thread(fsx.create, action.wanted, volume.uid, f"{volume.namespace}/{volume.name}")
                self._made[volume.uid] = made.id
                log.info("%s is being made", made.id, extra={"lustrevolume": "/".join(key)})
            case verdict.DeleteFileSystem():
                await asyncio.to_thread(fsx.delete, action.file_system_id)
                self._deleted[volume.uid] = action.file_system_id
                log.info("%s is being deleted", action.file_system_id, extra={"lustrevolume": "/".join(key)})
            case verdict.Link():
                await asyncio.to_thread(fsx.link, action.file_system_id, action.repository, action.token, volume.uid)
            case verdict.Unlink():
                await asyncio.to_thread(fsx.unlink, action.association_id)
            case verdict.SetEvents():
                await asyncio.to_thread(fsx.set_events, action.association_id, action.import_events, action.export_events)
            case verdict.Export():
                task = await asyncio.to_thread(fsx.export, action.file_system_id, action.paths, action.token, volume.uid)
                self._tasks[volume.uid] = (action.token, task)
            case verdict.CreateChild():
                await self._create(action.body)
            case verdict.DeleteClaim():
                deletion = self._kube.delete("PersistentVolumeClaim", volume.namespace, action.name, uid=action.uid)
                await self._tolerating("NotFound", deletion)
            case verdict.DeletePersistentVolume():
                await self._delete_persistent_volume(action.name, volume.uid)

    async def _create(self, child: Mapping[str, Any]) -> None:
        """A child that the API server refuses (a quota, a policy) is a trouble to be told, as a refusal of AWS is."""
        try:
            await self._tolerating("AlreadyExists", self._kube.create(dict(child)))
        except ApiError as error:
            if error.status not in (400, 403, 422):
                raise
            what = f"{child['kind']} {child['metadata']['name']}"
            raise CloudError(names.VolumeReason.CLAIM_REFUSED, error.reason, f"{what}: {error.message}") from error

    async def _delete_persistent_volume(self, name: str, uid: str) -> None:
        found = await self._get("PersistentVolume", "", name)
        if found is not None and found["metadata"].get("labels", {}).get(LABEL_VOLUME_UID) == uid:
            await self._tolerating("NotFound", self._kube.delete("PersistentVolume", "", name, uid=found["metadata"]["uid"]))

    async def _tolerating(self, reason: str, call: Any) -> None:
        try:
            await call
        except ApiError as error:
            if error.reason != reason:
                raise

    async def sweep(self) -> None:
        """PersistentVolumes whose LustreVolume went while nobody looked. (An adopted one has no finalizer to wait for us.)

        PersistentVolumes are cluster-wide; those of namespaces that another operator watches are not ours to judge.
        """
        found = await self._kube.list("PersistentVolume", "", f"?labelSelector={LABEL_VOLUME_UID}", metadata_only=True)
        known = {body["metadata"]["uid"] for key in self._lister.volumes.known() if (body := self._lister.volumes.get(key))}
        for item in found["items"] or ():
            labels = item["metadata"]["labels"]
            uid, namespace = labels[LABEL_VOLUME_UID], labels.get(LABEL_VOLUME_NAMESPACE)
            if uid not in known and (not self._namespaces or namespace in self._namespaces):
                await self._delete_persistent_volume(item["metadata"]["name"], uid)

    async def _forget(self, key: Key) -> None:
        uid = self._uids.pop(key, None)
        if uid is not None:
            for memory in (self._made, self._deleted, self._tasks, self._troubles, self._blind, self._zoneless):
                memory.pop(uid, None)
            await self._delete_persistent_volume(f"penstock-{uid}", uid)

    def _trouble(self, volume: Volume, error: CloudError, times: int, action: verdict.Action | None = None) -> Trouble:
        pause = min(self._rules.poll * 2 ** min(times - 1, 20), BACKOFF_MAX)
        # AWS names neither folder nor bucket when it cannot reach one of several.
        about = f"{action.repository.path} -> {action.repository.s3}: " if isinstance(action, verdict.Link) else ""
        log.warning(
            "%s; again in %.0f s", error, pause.total_seconds(), extra={"lustrevolume": f"{volume.namespace}/{volume.name}"}
        )
        return Trouble(error.reason, f"{about}{error.code}: {error.message}"[:1500], datetime.now(UTC) + pause, action)

    async def _client(self) -> FSx:
        """boto3 is imported by the first volume, in a thread: it takes half a second."""
        if self._fsx is None or (self._fsx.done() and self._fsx.exception() is not None):
            self._fsx = asyncio.ensure_future(asyncio.to_thread(FSx))
        return await asyncio.shield(self._fsx)


def _adopts(body: Slim) -> str | None:
    found: str | None = (body.get("spec") or {}).get("fileSystemId")
    return found


def _keeps_all(volume: Volume) -> bool:
    """Its deletion leaves the file system and its links alone."""
    spec = volume.spec
    if spec is None:
        return False
    linking = spec.repositories or volume.status.get("repositories")
    return spec.reclaim_policy is VolumeReclaimPolicy.RETAIN or (spec.create is None and not linking)


async def _nothing(value: Any) -> Any:
    return value
