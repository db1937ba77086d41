"""Names: everything people may type, live and ended, and what they are told when it is not there."""

from __future__ import annotations

import pytest
from world import World, ended, lasting, run, submit

from ffd.daemon.tree import Daemon
from ffd.errors import Refusal


async def refused(daemon: Daemon, text: str, project: str = "") -> Refusal:
    with pytest.raises(Refusal) as caught:
        await daemon.engine.resolve(text, project)
    return caught.value


@run
async def test_every_form_of_a_name() -> None:
    async with World().daemon() as daemon:
        numbers = []
        for _ in range(3):
            numbers.append((await submit(daemon, name="etl")).workflow)
            await ended(daemon, numbers[-1])
        live = (await submit(daemon, lasting("a", "1h"), name="llm-pretrain")).workflow
        resolve = daemon.engine.resolve
        assert await resolve("etl.2") == numbers[1]
        assert await resolve("llm-pretrain.1") == live
        assert await resolve(str(numbers[0])) == numbers[0]
        assert await resolve("etl") == await resolve("etl@latest") == numbers[2]
        assert await resolve("@latest") == live
        assert await resolve("llm-p") == await resolve("llm-pretrain.") == live


@run
async def test_handles_are_found_among_many_ended_ones() -> None:
    async with World().daemon() as daemon:
        found = {}
        for number in range(40):
            name = "even" if number % 2 == 0 else "odd"
            answer = await submit(daemon, name=name)
            found[answer.handle] = answer.workflow
            await ended(daemon, answer.workflow)
        for handle, workflow in found.items():
            assert await daemon.engine.resolve(handle) == workflow
        assert (await refused(daemon, "odd.21")).code == "not_found"
        assert (await refused(daemon, "odd.0")).code == "not_found"


@run
async def test_the_same_handle_in_two_projects_is_ambiguous_until_one_is_named() -> None:
    async with World().daemon() as daemon:
        one = await submit(daemon, name="etl", project="team/one")
        two = await submit(daemon, lasting("a", "1h"), name="etl", project="team/two")
        await ended(daemon, one.workflow)
        error = await refused(daemon, "etl.1")
        assert error.code == "conflict" and str(one.workflow) in error.message and str(two.workflow) in error.message
        assert await daemon.engine.resolve("etl.1", "team/one") == one.workflow
        assert await daemon.engine.resolve("etl.1", "team/two") == two.workflow
        assert (await refused(daemon, "etl.1", "team")).code == "not_found"
        assert (await refused(daemon, str(one.workflow), "team/two")).code == "not_found"


@run
async def test_a_prefix_must_be_unique() -> None:
    async with World().daemon() as daemon:
        for name in ("train", "trace", "train"):
            await submit(daemon, name=name)
        error = await refused(daemon, "trai")
        assert error.code == "conflict" and "train.2, train.1" in error.message
        assert (await refused(daemon, "tr")).code == "conflict"
        assert await daemon.engine.resolve("trac") == 2


@run
async def test_near_names_are_offered_of_the_asked_project_only() -> None:
    async with World().daemon() as daemon:
        await submit(daemon, name="llm-pretrain", project="mine")
        await submit(daemon, name="llm-secret", project="theirs")
        assert (await refused(daemon, "llm-pretrian.1", "mine")).hint == "did you mean llm-pretrain?"
        assert "secret" not in (await refused(daemon, "llm-secre.1", "mine")).hint
        for text in ("", "nothing", "nothing@latest", "nothing.1", "99", "9" * 30, ".", "a/b", "x" * 600):
            assert (await refused(daemon, text, "mine")).code == "not_found"


@run
async def test_names_survive_a_restart() -> None:
    world = World()
    async with world.daemon() as daemon:
        one = await submit(daemon, lasting("a", "1h"), name="etl")
        two = await submit(daemon, name="etl")
        await ended(daemon, two.workflow)
    async with world.daemon(owner="two") as daemon:
        assert await daemon.engine.resolve("etl.1") == one.workflow
        assert await daemon.engine.resolve("etl.2") == two.workflow
        assert (await submit(daemon, name="etl")).handle == "etl.3"
