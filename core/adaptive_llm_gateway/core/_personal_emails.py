"""Addresses of mail, and what has an `@` without being one.

Logins, handles, decorators, versions of packages, mailboxes of roles and machines, and the names that documentation is
to use are none.
"""

from __future__ import annotations

import re
from typing import Final

# Countries, and those generic domains that people have mail at. Of a name that ends otherwise (`icon@2x.png`,
# `getty@tty1.service`, `a@np.array`) far more are none.
_TOP_LEVEL_NAMES: Final = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc"
    " cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr"
    " ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm"
    " jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq"
    " mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa"
    " re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to"
    " tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
    " com net org edu gov mil int info biz name pro aero coop museum jobs mobi travel tel cat asia post"
    " academy agency amsterdam app art bank bar barcelona bayern berlin bio blog brussels business bzh care cash"
    " center city click clinic cloud club codes coffee community company consulting contact cool cyou dental design"
    " dev digital direct education email energy engineer engineering enterprises eus events expert family fashion"
    " finance financial fit foundation fun fund gal games gallery global gmbh gold group guide guru hamburg health"
    " help holdings house inc institute insure international ist istanbul koeln kiwi land law legal life limited"
    " link live llc london love ltd ltda management market marketing mba media melbourne moe money nexus ngo ninja"
    " nrw nyc one ong online ooo page paris partners photo photography photos physio place plus press quebec"
    " realestate rehab rent report rest restaurant ruhr saarland sale school science scot services shop site social"
    " software solutions solar space store studio style support swiss sydney systems team tech technology tips tirol"
    " today tokyo tools top tours trade training university vegas ventures vet vip vlaanderen wales website wien wiki"
    " win work works world wtf xyz yoga zone"
)
_TOP_LEVEL: Final = frozenset(_TOP_LEVEL_NAMES.split())
_RESERVED_NAMES: Final = (  # RFC 2606, 6761 and 7686, what documentation writes in their place, masks, and lists
    "example.com example.net example.org example.edu domain.com yourdomain.com mydomain.com yourcompany.com"
    " mycompany.com test.com foo.com bar.com foobar.com contoso.com fabrikam.com users.noreply.github.com"
    " noreply.github.com users.noreply.gitlab.com googlegroups.com"
)
_RESERVED: Final = frozenset(_RESERVED_NAMES.split())
_NOBODYS_NAMES: Final = (  # mailboxes of a role (RFC 2142), of machines, and of documentation
    "noreply no-reply no_reply donotreply do-not-reply do_not_reply mailer-daemon postmaster hostmaster webmaster root"
    " abuse noc security info support sales marketing contact hello help admin administrator office press jobs billing"
    " git hg svn www ftp news uucp usenet ubuntu ec2-user centos deploy www-data postgres bounce bounces notifications"
    " user username you your.name your-name yourname youremail your-email your_email name someone somebody foo bar"
    " firstname.lastname first.last example engineering team list lists mailman"
)
_NOBODY: Final = frozenset(_NOBODYS_NAMES.split())
_LOCAL: Final = re.compile(r"[A-Za-z0-9\u00c0-\u024f._%+&-]{1,65}")  # on the text reversed, so from the `@` back
_DOMAIN: Final = re.compile(r"(?:[^\W_](?:[^\W_]|-){0,62}\.){1,8}[A-Za-z]{2,18}(?![A-Za-z0-9_])")
_ON_A_MACHINE: Final = re.compile(r"(?<![\w-])(?:ssh|scp|sftp|rsync|mosh|autossh|ssh-copy-id)[ \t]")
_MESSAGE_ID: Final = re.compile(r"(?:message-id|in-reply-to|references)[\"']?:", re.IGNORECASE)


def email(text: str, at: int, allowed: frozenset[str]) -> tuple[int, int] | None:
    """Where the mailbox of a person is that has its `@` at `at`; None where that is none.

    Args:
        allowed: addresses, and domains with their `@`, that are none here; in small letters.
    """
    local = _LOCAL.match(text[max(0, at - 66) : at][::-1])
    domain = _DOMAIN.match(text, at + 1)
    if local is None or domain is None:
        return None
    start, end = at - local.end(), domain.end()
    if start and text[start - 1] == "\\" and text[start] in "nrt":
        start += 1  # a line's end as JSON writes it
    name = text[start:at].lstrip(".-+&%")
    start = at - len(name)
    labels = domain.group().lower().split(".")
    while len(labels) > 1 and labels[-1] not in _TOP_LEVEL:
        end -= len(labels.pop()) + 1  # `joe@example.org.Thanks`
    if len(labels) < 2 or not name or len(name) > 64 or name.endswith("."):
        return None
    host = ".".join(labels)
    who = name.lower()
    if (
        labels[0] == "lists"
        or host in _RESERVED
        or ".".join(labels[-2:]) in _RESERVED
        or who.partition("+")[0] in _NOBODY
    ):
        return None
    if f"{who}@{host}" in allowed or f"@{host}" in allowed or _is_no_mailbox(text, start, end):
        return None
    return start, end


def _is_no_mailbox(text: str, start: int, end: int) -> bool:
    """A login (`ssh me@host`, `me@host:path`, `https://me@host`), a handle (`@me@host`), the name of a message."""
    line = text[max(text.rfind("\n", max(0, start - 120), start) + 1, start - 120) : start]
    before = line[-1:]
    if before and before in "@/":
        return True
    behind = text[end : end + 80]
    if behind.startswith(":") and "/" in behind[1:].partition(" ")[0]:
        return True
    word = line.rpartition(" ")[2]
    if "://" in word and not any(c in "/?#" for c in word.rpartition("://")[2]):
        return True
    return _ON_A_MACHINE.search(line) is not None or _MESSAGE_ID.search(line) is not None
