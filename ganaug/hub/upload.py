"""Publishing on the Hugging Face Hub: generators, of whose folders only some files are uploaded, and datasets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from ganaug.core.errors import PublishError
from ganaug.core.files import stays_within
from ganaug.core.text import in_short
from ganaug.hub.card import GRID, published_card, updated_card
from ganaug.hub.config import CONFIG, read_config
from ganaug.hub.dataset_card import dataset_card, facts_of
from ganaug.hub.download import fetch
from ganaug.hub.folder import CARD, SEEN_IMAGES, load
from ganaug.hub.metadata import read_card
from ganaug.hub.registry import SavedGenerator
from ganaug.hub.requests import TransportError, is_hub_id, patiently
from ganaug.hub.weights import WEIGHTS

if TYPE_CHECKING:
    import datasets

# Nothing else in a folder is ever published: no checkpoint, no optimizer, no image but the grid of generated ones.
PUBLISHED = (CONFIG, WEIGHTS, SEEN_IMAGES, GRID, "evaluation/report.html", "evaluation/report.json")


@dataclass(frozen=True)
class Publication:
    """What was published, or would be.

    Attributes:
        repo_id (str): the repository.
        files (dict): path in the repository to the local file; without the card.
        card (str): README.md as published.
        url (str, optional): address of the commit; None if nothing was published.
        commit (str, optional): its hash, by which this generator can be pinned; None if nothing was published.
    """

    repo_id: str
    files: dict[str, Path]
    card: str
    url: str | None = None
    commit: str | None = None


def publish(
    folder: str | Path,
    repo_id: str,
    *,
    licence: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    branch: str | None = None,
    commit_message: str = "Publish a generator",
    create_pr: bool = False,
    endpoint: str | None = None,
    dry_run: bool = False,
) -> Publication:
    """Upload a saved generator in one commit, which fails if the repository changes meanwhile.

    Other files in the repository stay. In its README.md, only what stands between ganaug's marks and ganaug's own
    metadata change.

    Args:
        folder (str or Path): of a generator, as :meth:`ganaug.Generator.save_pretrained` or a training run writes it.
        repo_id (str): ``"user/repo"``; created if it does not exist.
        licence (str, optional): of the generator, for its card, such as ``"mit"``. Default: the one on the card, if
            any
        private (bool, optional): whether a new repository is private. Default: the setting of your account
        token (str or bool, optional): of the Hub. Default: the one that you are logged in with
        branch (str, optional): to publish on; created if it does not exist. Default: main
        commit_message (str): title of the commit. Default: Publish a generator
        create_pr (bool): propose the change instead of making it. Default: False
        endpoint (str, optional): address of the Hub. Default: huggingface.co
        dry_run (bool): only find out what would be published, and change nothing on the Hub. Default: False

    Raises:
        LoadError: the folder holds no generator that could be loaded again.
        PublishError: the Hub refuses or cannot be reached, or the repository was changed meanwhile. The folder stays
            as it was.
    """
    _check_id(repo_id)
    folder = fetch(Path(folder))
    files = {name: folder / name for name in PUBLISHED if os.path.lexists(folder / name)}
    for path in [*files.values(), folder / CARD]:
        _check_own(path, folder)
    generator: SavedGenerator = load(folder)
    api = HfApi(endpoint=endpoint, token=token)
    with _explained(repo_id):
        if not dry_run:
            _make(api, repo_id, "model", private, branch)
        parent, theirs = _there(api, repo_id, branch, "model")
        card = updated_card(
            read_card(folder / CARD), generator, read_config(folder)["weights"]["sha256"], source=repo_id
        )
        publication = Publication(repo_id, files, published_card(card, theirs, licence=licence))
        if dry_run:
            return publication
        adding = [CommitOperationAdd(name, path) for name, path in files.items()]
        adding.append(CommitOperationAdd(CARD, publication.card.encode()))
        made = patiently(
            api.create_commit,
            repo_id,
            adding,
            commit_message=commit_message,
            revision=branch,
            create_pr=create_pr,
            parent_commit=parent,
            of_bytes=sum(path.stat().st_size for path in files.values()),
        )
    return Publication(repo_id, files, publication.card, made.pr_url or made.commit_url, made.oid)


def publish_dataset(
    rows: datasets.Dataset,
    repo_id: str,
    *,
    licence: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
) -> str:
    """Upload a dataset with generated images, and a card that says so and names their generator.

    The card goes first, in a commit that fails if the repository changes meanwhile; then comes ``rows.push_to_hub``.
    In a README.md that exists, only what stands between ganaug's marks and the metadata change.

    Args:
        rows (datasets.Dataset): of :func:`ganaug.generate_dataset` or :func:`ganaug.augment_dataset`, or what ``map``,
            ``select`` and the like made of it.
        repo_id (str): ``"user/repo"``; created if it does not exist.
        licence (str, optional): of the images, for the card, such as ``"mit"``. Default: the one on the card, if any
        private (bool, optional): whether a new repository is private. Default: the setting of your account
        token (str, optional): of the Hub. Default: the one that you are logged in with
        branch (str, optional): to publish on; created if it does not exist. Default: main

    Returns:
        str: address of the last commit.

    Raises:
        InputError: the dataset does not say that ganaug generated images in it, or does not have exactly one column
            of classes.
        PublishError: the Hub refuses or cannot be reached, or the repository was changed meanwhile.
    """
    _check_id(repo_id)
    facts = facts_of(rows)
    of_bytes = _check_images(rows) + rows.data.nbytes
    api = HfApi(token=token)
    with _explained(repo_id):
        _make(api, repo_id, "dataset", private, branch)
        parent, theirs = _there(api, repo_id, branch, "dataset")
        card = dataset_card(facts, source=repo_id, theirs=theirs, licence=licence)
        if card != theirs:
            patiently(
                api.create_commit,
                repo_id,
                [CommitOperationAdd(CARD, card.encode())],
                repo_type="dataset",
                commit_message="Say where the generated images come from",
                revision=branch,
                parent_commit=parent,
            )
        made = patiently(rows.push_to_hub, repo_id, token=token, revision=branch, of_bytes=of_bytes)
        return str(made.commit_url)


def _check_id(repo_id: str) -> None:
    if not is_hub_id(repo_id):
        raise PublishError(f"{in_short(repo_id)!r} is not a Hub id: give 'user/repo'")


def _check_own(path: Path, folder: Path) -> None:
    """Refuse to upload what is no file of the folder's own, such as a link to a private key."""
    if not path.is_file():
        raise PublishError(f"{path} is not a file, so it is not published. Save the generator again")
    if not stays_within(path, folder):
        raise PublishError(
            f"{path} is or goes through a link to {path.resolve()}, outside the folder, so it is not published. Put a "
            "copy there if it is meant for others"
        )


def _check_images(rows: datasets.Dataset) -> int:
    """Bytes of the image files that are uploaded with a dataset; refuse links out of their folders."""
    import datasets

    columns = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    plain = rows.select_columns(columns).cast(
        datasets.Features({name: datasets.Image(decode=False) for name in columns})
    )
    cells = (cell for row in plain.with_format(None) for cell in row.values() if cell is not None)
    paths = [Path(cell["path"]) for cell in cells if cell["bytes"] is None and "://" not in cell["path"]]
    if not paths:
        return 0
    folder = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    for path in paths:
        _check_own(path, folder)
    return sum(path.stat().st_size for path in paths)


def _make(api: HfApi, repo_id: str, kind: str, private: bool | None, branch: str | None) -> None:
    """Create a repository and a branch if they do not exist."""
    patiently(api.create_repo, repo_id, repo_type=kind, private=private, exist_ok=True)
    if branch is not None:
        patiently(api.create_branch, repo_id, repo_type=kind, branch=branch, exist_ok=True)


def _there(api: HfApi, repo_id: str, branch: str | None, kind: str) -> tuple[str | None, str | None]:
    """The last commit of a branch and its README.md, if there are any."""
    try:
        sha = patiently(api.repo_info, repo_id, repo_type=kind, revision=branch).sha
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None, None
    if sha is None:
        return None, None
    if not isinstance(sha, str) or not re.fullmatch("[0-9a-f]{40}", sha):
        raise ValueError(f"the Hub's answer has a wrong value for the commit, {in_short(sha)}")
    try:
        with TemporaryDirectory() as cache:
            path = patiently(api.hf_hub_download, repo_id, CARD, repo_type=kind, revision=sha, cache_dir=cache)
            return sha, read_card(path)
    except EntryNotFoundError:
        return sha, None


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        advice = {
            401: "the token is not valid, or there is none. Log in with `hf auth login`, or pass token",
            403: "the token may not write there",
            404: "there is no such repository, or the token may not see it",
            412: "it was changed meanwhile. Run the same again",
        }.get(status, f"the Hub answered {status}")
        raise PublishError(f"{repo_id} was not published: {advice}. Nothing local was changed") from error
    except (TransportError, OSError, ValueError) as error:
        raise PublishError(f"{repo_id} was not published: {error}. Nothing local was changed") from error
