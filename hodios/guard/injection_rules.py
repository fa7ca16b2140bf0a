"""What orders to a model usually say, as expressions. Data only; `injection.py` looks for them."""

from __future__ import annotations

import re
from typing import NamedTuple


class Rule(NamedTuple):
    name: str
    """Several rules of one name count as one sign."""
    weight: float
    """How sure a text is one that gives orders, where nothing else speaks for it."""
    signs: tuple[str, ...]
    """Where none of them occurs, the pattern is not tried."""
    pattern: re.Pattern[str]
    """Of text in lower case, in which runs of blanks are one space."""


def _rule(name: str, weight: float, signs: str, pattern: str) -> Rule:
    """The pattern may be broken into lines; a space in it is a line's end in texts, too."""
    whole = re.sub(r"\s*\n\s*", "", pattern).replace(" ", r"[ \n]")
    return Rule(name, weight, tuple(signs.split("|")), re.compile(whole))


_MODEL = (
    r"(?:(?:an?|any|the|this|all) )?"
    r"(?:ai|llms?|(?:large )?language models?|assistants?|chat ?bots?|bots?|ai agents?|chatgpt)\b"
)
RULES = (
    _rule(
        "override",
        0.85,
        "ignor|disregard|forget|overrid|bypass|follow|supersede|vergiss|oublie|olvida|dimentica",
        r"""\b(?:ignor(?:e|ing|iere\w*|a|ez?)|disregard|forget|overrid(?:e|es|ing)|bypass|(?:do not|don't
        |stop) follow(?:ing)?
        |supersedes?|vergiss|oubliez?|olvida|dimentica)\b[^.!?]{0,30}
        \b(?:(?:all|any|every|the|your|previous\w*|prior|above|earlier|preceding|initial|original|developer
        |system|safety
        |alle|bisherigen|deine|toutes|les|tes|todas|las|tus|tutte|le|tue|anteriores|precedenti)\b[^.!?]{0,20}){1,3}
        (?:instructions?|prompts?|rules|directions|directives?|guidelines|commands?|constraints|policy|policies
        |restrictions
        |checks|ones|anweisungen|regeln|richtlinien|consignes|règles|instrucciones|reglas|istruzioni|regole)\b""",
    ),
    _rule(
        "override",
        0.7,
        "ignore|disregard|forget",
        r"""\b(?:ignore|disregard|forget) (?:(?:everything|anything|all)\b[^.!?]{0,30}\b(?:above|before|so far
        |told)\b
        |(?:the|this) (?:above|user|data|document|rest of (?:the|this))\b(?! (?:warning|error|example|note
        |agent)))""",
    ),
    _rule(
        "override",
        0.6,
        "safety|restriction|rules|limits|filter",
        r"""\b(?:safety|content) (?:protocols?|filters?|polic(?:y|ies)|checks?|guidelines)\b[^.!?]{0,30}
        \b(?:disabled|off|(?:do|does|were|was) not|suspended|lifted|exempt)\b
        |\b(?:without|no|any) (?:restrictions|rules|filters?|limits|content policy)\b[^.!?]{0,40}\b(?:comply
        |answer|respond)\b
        |\b(?:respond|answer|comply)\b[^.!?]{0,40}\b(?:without|no) (?:any )?(?:restrictions|rules|filters?
        |limits)\b""",
    ),
    _rule(
        "address",
        0.6,
        "ai|llm|assistant|bot|language model|chatgpt",
        rf"""\b(?:attention|notes?|message|important|notice|instructions?|dear)\b[\s,:!-]{{0,3}}
        (?:to |for )?{_MODEL} ?[:,!-]
        |\b(?:attention|notice|(?:important )?(?:message|instructions?|notes?)) (?:to|for) {_MODEL}
        |\bif you(?: are|'re) (?:an? )?(?:ai|llm|(?:large )?language model|ai assistant|chatbot|ai agent)\b
        |\b(?:ai )?(?:assistant|agent|chatbot)s? (?:reading|processing|integrating|summari[sz]ing
        |parsing) (?:this|the)\b
        |<!-- ?(?:ai|assistant|llm|system)\b|\(for ai (?:coding )?(?:agents|assistants)\)""",
    ),
    _rule(
        "new orders",
        0.6,
        "instruction|system|prompt|directive|task|now|your",
        r"""\b(?:new|updated|revised|additional|hidden|secret|urgent|priority) (?:system )?(?:instructions?
        |prompts?|directives?) ?[:=-]
        |\bsystem (?:override|prompt|message|instructions?|notice|command|note)s? ?[:\]>]|(?:^|\n
        |[\[(]) ?system ?[:\])]
        |\byou are now (?:an? |the |in )?(?:dan|developer|unrestricted|jailbroken|root|admin|different|evil)\b
        |\bfrom now on,? (?:you|respond|answer)\b
        |\byour (?:new|real|actual|true|only) (?:task|goal|objective|purpose|instructions?|role|directive)\b""",
    ),
    _rule(
        "markup",
        0.8,
        "<|im_|<|start_header|<|end_header|<|eot|<|system|inst]|<sys>>|### system|### instruction|tool_res"
        "|function_results|system>",
        r"""<\|(?:im_start|im_end|start_header_id|end_header_id|eot_id|system)\|>|\[/?inst\]|<</?sys>>
        |### ?(?:system|instructions?) ?:|</(?:tool_response|tool_result|function_results|system)>|<system>""",
    ),
    _rule(
        "secrecy",
        0.7,
        "user|human|anyone",
        r"""\b(?:do not|don't|never|must not|without)\b[^.!?]{0,25}\b(?:tell|mention|inform|notify|reveal|alert
        |ask|warn)(?:ing)?\b
        [^.!?]{0,30}\b(?:users?|human|anyone)\b""",
    ),
    _rule(
        "leak",
        0.6,
        "send|forward|mail|post|upload|exfiltrat|leak|transmit|append|include|encode",
        r"""\b(?:send|forward|e-?mail|\w*post|upload|exfiltrate|leak|transmit|append|include|encode)\b[^.!?]{0,60}
        \b(?:passwords?|api[\s_-]?keys?|credentials|secrets?|private keys?|access tokens?|(?:conversation|chat
        |message) history
        |(?:this|the|whole|entire|full) (?:conversation|customer list)|system prompt|environment variables|inbox
        |credit card|all order data)\b
        [^!?]{0,80}(?:https?://|[\w.+-]+@[\w-]+\.|\bto (?:the )?(?:attacker|following|url|webhook|me)\b
        |\bexternally\b)
        |https?://[^\s]{4,80} [^.!?]{0,60}\b(?:api key|password|credentials|secret)""",
    ),
    _rule(
        "reveal",
        0.6,
        "prompt|instructions|credentials|context window",
        r"""\b(?:reveal|print(?:ing)?|repeat|output|show|tell me|leak|give me|disclose|dump)\b[^.!?]{0,30}
        \b(?:system prompt|(?:initial|hidden|secret|exact|operating|your) (?:prompt|instructions|rules)
        |your context window|any credentials)\b""",
    ),
    _rule(
        "in the answer",
        0.5,
        "your |every |each ",
        r"""\b(?:append|include|end|begin|start|repeat)\b[^.!?]{0,80}
        \b(?:your|every|each) (?:future |final )?(?:reply|replies|responses?|answers?|summary|summaries
        |report)\b""",
    ),
    _rule(
        "call",
        0.5,
        "call |use |invoke |execute |run ",
        r"""\b(?:you must|you should|immediately|first|before (?:answering|you (?:answer|reply)|responding
        |replying|continuing)[^.!?]{0,20}
        |housekeeping|step|cleanup(?: required)?|then|now|and|to [^.!?]{4,60})[,:.;]? (?:please |now )?
        (?:call|invoke|use) [a-z]+_[a-z_]+ (?:on|with|to)\b""",
    ),
    _rule(
        "decode",
        0.6,
        "decode|base64|rot13|encoded",
        r"""\bdecode\b[^!?]{0,60}\b(?:follow|obey|execute|do (?:exactly )?what it says|run it)\b
        |\b(?:base64|rot13|hex|binary)\b[^!?]{0,60}\b(?:follow|obey|execute|do exactly)\b""",
    ),
    _rule(
        "lure",
        0.6,
        "](http",
        r"""!\[[^\]]{0,80}\]\(https?://[^)\s]{1,120}[?&=/](?:\{|%7b|\[|<|\$|your_|data\b|secret)""",
    ),
)
