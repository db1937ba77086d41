"""Bugs to plant into the books of free space and the finder of places."""

from __future__ import annotations

from planting import Bug

FINDER = "tests/core/test_place.py"
BOOKS = "tests/core/test_space.py"

BUGS = [
    Bug(
        "a trial leaves the version as it made it", "a_trial_is_undone", "core/space.py",
        "        space.version, space.inventory_version = self._versions\n",
        "",
        f"{BOOKS}::test_a_trial_is_undone_also_when_it_fails",
    ),
    Bug(
        "who follows the books is not told of the end of a trial", "a trace of what was tried", "core/space.py",
        "        space._touch_again(list(self._saved))\n",
        "",
        f"{BOOKS}::test_the_books_equal_their_recomputation_and_trials_leave_no_trace",
    ),
    Bug(
        "a taint keeps nobody away", "has the taint spot", "core/nodespace.py",
        "        if taint not in ask.tolerate:\n",
        "        if taint in ask.tolerate:\n",
        f"{BOOKS}::test_what_does_not_fit_is_said",
    ),
    Bug(
        "a GPU is given to two replicas of a gang", "test_an_answer_fits", "core/gpus.py",
        "                free = [index for index in free if index not in chosen]\n",
        "                pass\n",
        f"{FINDER}::test_an_answer_fits_and_is_found_whenever_there_is_one",
    ),
    Bug(
        "a node takes what comes although it is closed", "test_vectors_that_follow", "core/schedule/rooms.py",
        "        room[self.closed[at]] = 0\n",
        "",
        f"{FINDER}::test_vectors_that_follow_equal_vectors_made_anew_and_the_plain_reading",
    ),
    Bug(
        "the sum of rooms is not kept", "test_vectors_that_follow", "core/schedule/rooms.py",
        "            self.total += more\n",
        "",
        f"{FINDER}::test_vectors_that_follow_equal_vectors_made_anew_and_the_plain_reading",
    ),
    Bug(
        "the domain of another task is not followed", "test_an_answer_fits", "core/schedule/place.py",
        "        enough &= np.array([name in domains for name in level.names], bool)\n",
        "        pass\n",
        f"{FINDER}::test_an_answer_fits_and_is_found_whenever_there_is_one",
    ),
    Bug(
        "a compact gang fills nodes that others use", "test_a_compact_gang", "core/schedule/place.py",
        "    empty = np.flatnonzero((room > 0) & (room == rooms.capacity))\n",
        "    empty = np.flatnonzero(room > 0)\n",
        f"{FINDER}::test_a_compact_gang_fills_empty_nodes_and_the_tightest_other_one",
    ),
    Bug(
        "what is idle on GPUs with too little free is of use", "test_a_gain_is", "core/schedule/fragment.py",
        "(free[:, :, None] * enough).sum(axis=1)",
        "(free[:, :, None] * (enough | True)).sum(axis=1)",
        f"{FINDER}::test_a_gain_is_the_fragmentation_that_goes_away",
    ),
]  # fmt: skip
