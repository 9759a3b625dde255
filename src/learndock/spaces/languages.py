"""Which language a text seems to be in: by its letters, and for Latin letters by its most frequent words.

Enough to name what a helper cannot read, not to sort texts: short texts and mixtures stay without a name.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

#: Frequent words of languages in Latin letters. Each list is checked against a helper's vocabulary too.
WORDS: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "English": "a the and of to is in that it for was with are this not you have be on but as they at from or an "
        "we his her she by which there their would what my all",
        "Czech": "je se na že to jako za by jsem si co tak pro už jsou po jeho která který nebo také než byl není aby",
        "Danish": "og at det er en som på af med ikke den til har jeg om et var fra så han hun kan vi når eller også",
        "Dutch": "het een van is niet dat te met op voor zijn ook aan er maar bij ik je wordt heeft nog uit deze hij",
        "Finnish": "ja on ei että se hän oli mutta ovat kun niin myös jos tai minä mitä kuin vain sen joka ole hyvin",
        "French": "le la les des est et une un pas que qui dans pour sur avec nous vous ce cette mais je il sont du au",
        "German": "der die und das ist nicht ein eine mit auf für von den sich auch dem zu es wir sie ich wird sind",
        "Hungarian": "az és hogy nem egy van de ez meg már csak volt ha én mint még sem azt lesz nagyon vagy ezt mert",
        "Indonesian": "dan yang di ini itu dengan untuk tidak dari dalam akan pada saya ada juga sudah ke bisa karena",
        "Italian": "il di che è una non per sono del della le si ma anche più gli questo alla nel come ho era molto",
        "Polish": "i w nie na się jest że z jak ale po co tak za od czy już przez był dla tylko jego może są bardzo",
        "Portuguese": "o os e é um uma não que de para com em da na se por mais mas foi muito como ao são está você",
        "Romanian": "și este în la un nu care pe cu din că pentru mai sunt ce dar fost foarte sau după fi această",
        "Spanish": "el los las es y una que en para con por se del pero muy más su está al lo son fue ha este esta sin",
        "Swedish": "och att det är en som på för av med inte den har jag om ett var men från så han hon kan när eller",
        "Turkish": "ve bir bu da için ile çok ne daha gibi ama var mı olarak değil en kadar sonra ben o her şey olan",
        "Vietnamese": "và là của không có cho được một những trong này người với các tôi đã khi rất thì nhưng cũng",
    }.items()
}
_SCRIPTS = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
_OWN_LANGUAGE = frozenset(("GREEK", "HEBREW", "THAI", "GEORGIAN", "ARMENIAN", "TAMIL", "TELUGU", "BENGALI"))
#: Letters and words at the beginning of a text that are looked at.
_LETTERS, _MOST_WORDS = 400, 100
#: Each frequent word with the languages that have it.
_LANGUAGES_OF = {
    word: tuple(name for name, words in WORDS.items() if word in words) for word in frozenset().union(*WORDS.values())
}
_WORD = re.compile(r"[^\W\d_]+")


def language(text: str) -> str | None:
    """The name of a text's language or script, or None where too little of it says so."""
    found = script(text)
    if found != "LATIN":
        if found is None:
            return None
        return _SCRIPTS.get(found) or found.capitalize() + ("" if found in _OWN_LANGUAGE else " letters")
    words = _WORD.findall(unicodedata.normalize("NFC", text).lower())[:_MOST_WORDS]
    hits = Counter(name for word in words for name in _LANGUAGES_OF.get(word, ()))
    if not hits:
        return None
    best = hits.most_common(1)[0][0]
    sure = (
        hits[best] >= 2 and hits[best] * 7 >= len(words) and (best == "English" or hits[best] >= 1.5 * hits["English"])
    )
    return best if sure else None


def script(text: str) -> str | None:
    """The script that most letters of the beginning of a text belong to, as Unicode names it; kana make Japanese."""
    if text.isascii():
        return "LATIN" if any(map(str.isalpha, text)) else None
    found = Counter(unicodedata.name(c, "").split(" ")[0] for c in text[:_LETTERS] if c.isalpha())
    if not found:
        return None
    kana = found["HIRAGANA"] + found["KATAKANA"]
    return "HIRAGANA" if kana * 10 > found.total() else found.most_common(1)[0][0]
