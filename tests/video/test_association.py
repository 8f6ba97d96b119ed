"""Association: boxes that move on, embeddings that forbid and allow, pieces that go on."""

import numpy as np
from video.faces import ANN, BOB, face

from facelib.video.association import MAX_GAP, AssociationScores, Tracker
from facelib.video.tracks import join_pieces

SCORES = AssociationScores(same=0.5, different=0.2, split=0.3)
STEP = 0.12


def run(tracker: Tracker, frames: list[list], start: float = 0.0) -> list[list[int]]:
    return [tracker.update(start + STEP * number, faces)[0] for number, faces in enumerate(frames)]


def test_a_face_that_moves_fast_is_one_track_by_its_velocity():
    tracker = Tracker()
    assert run(tracker, [[face(ANN, x=6 * number)] for number in range(12)]) == [[1]] * 12
    (track,) = tracker.finish()
    assert len(track.times) == 12 and track.boxes[-1, 0] == 66


def test_two_people_who_change_places_keep_their_numbers():
    frames = [[face(ANN, x=2 * number), face(BOB, x=40 - 2 * number)] for number in range(21)]
    assert run(Tracker(SCORES), frames) == [[1, 2]] * 21


def test_another_person_at_the_same_place_is_another_track():
    frames = [[face(ANN)]] * 3 + [[face(BOB)]] * 3
    assert run(Tracker(SCORES), frames) == [[1]] * 3 + [[2]] * 3
    assert run(Tracker(), frames) == [[1]] * 6, "by boxes alone it is not seen"


def test_a_blurred_face_forbids_nothing():
    frames = [[face(ANN)], [face(BOB, issue="too blurred")], [face(ANN)]]
    assert run(Tracker(SCORES), frames) == [[1]] * 3


def test_a_face_that_jumped_is_found_again_by_its_embedding():
    frames = [[face(ANN)], [face(ANN, x=25)], [face(BOB, x=60)]]
    assert run(Tracker(SCORES), frames) == [[1], [1], [2]]
    assert run(Tracker(), frames) == [[1], [2], [3]]


def test_tracks_end_after_a_gap_and_at_a_cut():
    tracker = Tracker(SCORES)
    assert tracker.update(0.0, [face(ANN)])[0] == [1]
    assert tracker.update(MAX_GAP, [face(ANN)])[0] == [1]
    for time in (1.3, 1.6, 1.9):
        tracker.update(time * MAX_GAP, [])
    numbers, ended = tracker.update(2.1 * MAX_GAP, [face(ANN)])
    assert numbers == [2] and [track.number for track in ended] == [1]
    numbers, ended = tracker.update(2.2 * MAX_GAP, [face(ANN)], is_cut=True)
    assert numbers == [3] and [track.number for track in ended] == [2]
    assert [track.number for track in tracker.finish()] == [3] and tracker.finish() == []


def test_where_frames_are_rare_a_track_lasts_over_one_in_which_the_face_is_not_found():
    tracker = Tracker(SCORES, last_time=0.0)
    seen = [[face(ANN)], [face(ANN)], [], [face(ANN)], [], [], [face(ANN)]]
    numbers = [tracker.update(2.0 * number, faces)[0] for number, faces in enumerate(seen, 1)]
    assert numbers == [[1], [1], [], [1], [], [], [2]]


def test_a_track_of_two_people_is_divided_when_it_ends():
    tracker = Tracker(AssociationScores(split=0.3))
    run(tracker, [[face(ANN)]] * 5 + [[face(BOB)]] * 5 + [[face(ANN)]] * 5)
    ended = tracker.finish()
    assert [(track.number, len(track.times)) for track in ended] == [(1, 5), (2, 5), (3, 5)]
    np.testing.assert_allclose(ended[1].face.embedding, BOB, atol=1e-6)


def test_closed_pieces_go_on_in_the_tracker_and_in_a_new_one_made_from_them():
    frames = [[face(ANN, x=number), face(BOB, x=50)] for number in range(10)]
    whole = Tracker(SCORES)
    run(whole, frames)
    tracker = Tracker(SCORES)
    run(tracker, frames[:5])
    pieces, going_on = tracker.close_pieces()
    assert [piece.number for piece in pieces] == [piece.number for piece in going_on] == [1, 2]
    resumed = Tracker(SCORES, pieces=going_on, next_number=tracker.next_number)
    for later in (tracker, resumed):
        assert run(later, frames[5:], start=5 * STEP) == [[1, 2]] * 5
        rest = later.finish()
        for number, one in enumerate(whole.finish()):
            joined = join_pieces([pieces[number], rest[number]])
            np.testing.assert_array_equal(joined.boxes, one.boxes)
            np.testing.assert_allclose(joined.times, one.times)


def test_frames_without_faces_are_no_trouble():
    tracker = Tracker(SCORES)
    assert run(tracker, [[], [face(ANN)], [], []]) == [[], [1], [], []]
    assert len(tracker.finish()) == 1
