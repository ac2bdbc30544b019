"""The English words by which the fallback judges a text when no model can."""

from __future__ import annotations


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


POSITIVE = _words(
    """
    amazing appreciate awesome beautiful best better brilliant clean clear cool delighted easy enjoy
    enjoyed excellent exciting fabulous fantastic fast favorite favourite fine friendly fun glad good
    grateful great happy helped helpful helps impressed impressive incredible interesting kind love
    loved lovely loves nice outstanding perfect perfectly pleasant pleased polite quick quickly reliable
    resolved satisfied smart smooth smoothly solved superb terrific thank thankful thanks thrilled
    useful well wonderful worked works wow
    """
)

NEGATIVE = _words(
    """
    angry annoyed annoying awful bad badly boring broke broken bug buggy complain complaint confused
    confusing crap crash crashed crashes crashing damaged dead difficult disappointed disappointing
    disaster disgusting dumb error errors expensive fail failed failing fails failure fault faulty
    frustrated frustrating furious garbage hate hated hates horrible hopeless impossible incompetent
    incorrect issue joke lost mess mistake nightmare outrageous overcharged pathetic poor problem
    problems ridiculous rip-off rubbish rude sad scam shame sick slow stuck stupid suck sucks terrible
    tired trash ugly unacceptable unfair unhappy unhelpful unreliable unusable upset useless waste wasted
    worse worst wrong
    """
)

NEGATORS = _words(
    """
    not no never none nobody nothing neither nor cannot without hardly barely ain't aren't can't couldn't
    didn't doesn't don't hadn't hasn't haven't isn't mustn't shouldn't wasn't weren't won't wouldn't
    """
)

INTENSIFIERS = _words(
    "absolutely completely extremely highly incredibly really so super too totally truly very"
)

GREETINGS = ("hi", "hello", "hey", "howdy", "greetings", "good morning", "good afternoon", "good evening")
GOODBYES = ("bye", "goodbye", "see you", "see ya", "good night", "farewell", "take care", "talk to you later")
THANKS = ("thanks", "thank you", "thank", "thx", "cheers", "much appreciated", "i appreciate")
AFFIRMATIONS = ("yes", "yeah", "yep", "sure", "ok", "okay", "correct", "exactly", "sounds good", "of course")
DENIALS = ("no", "nope", "nah", "no thanks", "no thank you", "not really", "don't")

COMPLAINTS = (
    "does not work", "doesn't work", "not working", "isn't working", "stopped working", "won't work",
    "no longer works", "complain", "complaint", "i am fed up", "i'm fed up", "refund", "overcharged",
    "unacceptable", "let me down",
)  # fmt: skip

REQUESTS = (
    "please", "i want", "i need", "i would like", "i'd like", "i wish to", "can you", "could you",
    "would you", "will you",
    "can i get", "can i have", "could i get", "could i have", "help me", "let me", "i have to",
)  # fmt: skip

ORDERS = _words(
    """
    activate add book buy call cancel change check close connect create delete disable download enable
    explain find fix get give help increase install list make move open order pay play read reduce remind
    remove renew repair replace report reset schedule search send set show start stop switch tell transfer
    translate turn update upgrade write
    """
)

QUESTION_OPENERS = _words(
    """
    what what's who who's whom whose which when when's where where's why why's how how's is are am was were
    does did can could would should may might
    """
)
