"""The page's own words in English and Chinese: English is what the code says, the other language stands beside it.

A browser's language chooses. Words of the page itself are translated by Gradio in the browser; what the server makes is
translated on its way out, by the language that the request asks for. What has no translation stays English.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

__all__ = ["CHINESE", "LANGUAGES", "key_of", "language_of", "retold", "said", "translations"]

LANGUAGES = ("en", "zh")

CHINESE: Mapping[str, str] = {
    # the page
    "Chat": "聊天",
    "New chat": "新对话",
    "Search": "搜索",
    "Search conversations": "搜索对话",
    "Conversation": "对话",
    "Conversations": "对话列表",
    "Message": "输入消息",
    "Copy code": "复制代码",
    "Send": "发送",
    "Stop": "停止",
    "Retry": "重试",
    "Undo": "撤回",
    # the demo
    "A tiny language model that runs on this machine. It has learned what millrace's words mean, "
    "and declines what it does not know.": (
        "在本机运行的微型语言模型。它学过 millrace 各术语的含义（用英文提问），不知道的会如实拒答。"
    ),
    # the list
    "Nothing found": "没有找到",
    "No conversations yet": "还没有对话",
    "More about {}": "“{}”的更多操作",
    "answering": "正在回答",
    "Rename": "重命名",
    "Title": "标题",
    "Download as Markdown": "下载为 Markdown",
    "Download as JSON": "下载为 JSON",
    "Delete": "删除",
    "Delete for good?": "确定永久删除？",
    # the other tabs
    "Flow": "流程",
    "Runs": "运行记录",
    "Diagram of the flow": "流程图",
    "Ask something in the chat: its steps light up here as they run.": "在聊天中提问：各步骤运行时会在这里亮起。",
    "Running": "运行中",
    "Waiting for a free place": "正在等待空位",
    "At work: {}": "运行中：{}",
    "Done": "完成",
    "done": "完成",
    "Stopped": "已停止",
    "Failed": "失败",
    "failed": "失败",
    "Stopped: {}": "已停止：{}",
    "stopped: {}": "已停止：{}",
    "Failed: {}": "失败：{}",
    "failed: {}": "失败：{}",
    "{} so far": "已用 {}",
    "first piece after {}": "首段用时 {}",
    ", first piece after {}": "，首段用时 {}",
    "{} + {} tokens": "{} + {} 个词元",
    "No runs yet.": "还没有运行记录。",
    "Choose a run to see what it did, and what it said.": "选择一次运行，查看它做了什么、说了什么。",
    "The run": "此次运行",
    "Timeline": "时间线",
    "Events": "事件",
    "{} events": "{} 个事件",
    "{} event": "{} 个事件",
    "{} further events are not kept here: {} lines are.": "另有 {} 个事件未保留：只保留 {} 行。",
    # a turn
    "Reasoning": "思考过程",
    "Step": "步骤",
    "stopping": "正在停止",
    "stopped": "已停止",
    "working": "处理中",
    "waiting for a free place": "正在等待空位",
    "waiting for a free place, {} in line": "正在等待空位，排在{}",
    "{} tokens": "{} 个词元",
    "{} token": "{} 个词元",
    "first after {}": "首字用时 {}",
    # failures
    "Busy right now": "目前繁忙",
    "Your quota is used up": "您的额度已用完",
    "Try again in {} seconds.": "请在 {} 秒后重试。",
    "Try again in {} second.": "请在 {} 秒后重试。",
    "This is too long for the model": "内容超出了模型的长度限制",
    "Ask for less, or clear the chat and begin anew.": "请缩短内容，或清空后重新开始。",
    "The answer took too long and was stopped": "回答用时过长，已被停止",
    "Ask for less.": "请缩小问题的范围。",
    "The answer was stopped": "回答已被停止",
    "Ask again.": "请再问一次。",
    "The flow failed with {}": "流程出错：{}",
    "The server's log says more.": "详情请见服务器日志。",
    "Another tab is being answered in this conversation. Wait for it, or stop it.": (
        "此对话正在另一个标签页中回答。请等待，或将其停止。"
    ),
    # files
    "Add files": "添加文件",
    "Add a file": "添加文件",
    "Add a file first": "请先添加文件",
    "A file is needed; add one": "需要一个文件，请添加",
    "Files": "文件",
    "Remove {}": "移除 {}",
    "sending": "正在发送",
    "The file could not be sent": "文件无法发送",
    "The file could not be kept": "文件无法保存",
    "There is no more room for files; delete conversations first": "文件空间已满，请先删除一些对话",
    "{} is too large: {} at most": "{} 太大：最多 {}",
    "{} is not of a kind that is taken here": "{} 的类型不被接受",
    "{} is not taken beside the other files; leave it out": "{} 不能与其他文件一起使用，请移除",
    "{} is no image that can be read": "{} 不是可读取的图片",
    "{} cannot be read: {}": "{} 无法读取：{}",
    # settings
    "Settings": "设置",
    "Instructions": "系统提示",
    "Said to the model before the conversation.": "在对话之前告诉模型的内容。",
    "Temperature": "温度",
    "0 always takes the likeliest word; more is more varied.": "0 总是选择最可能的词；数值越大，回答越多样。",
    "Top-p": "Top-p",
    "Only the likeliest words, which together make up this share.": "只考虑累计概率达到此比例的最可能的词。",
    "Longest answer": "最长回答",
    "In tokens; a word has one or two.": "以词元计。",
    "Seed": "随机种子",
    "The same seed gives the same answer again, as far as it can.": "相同的种子会尽可能给出相同的回答。",
    # logging in
    "Log in": "登录",
    "Log out": "退出登录",
    "Your key": "您的密钥",
    "This key is not known": "密钥无效",
    "Too many attempts; try again in {} seconds": "尝试次数过多，请在 {} 秒后重试",
}


def key_of(words: str) -> str:
    """By which Gradio finds words in the browser."""
    return "mr-" + re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")


def translations() -> dict[str, dict[str, str]]:
    """For `gradio.I18n`: words without gaps by their keys, for each language as browsers call it."""
    english = {key_of(words): words for words in CHINESE if "{}" not in words}
    chinese = {key: CHINESE[words] for key, words in english.items()}
    return {"en": english} | dict.fromkeys(("zh", "zh-CN", "zh-TW", "zh-HK"), chinese)


def said(words: str, language: str) -> str:
    """Words in a language; parts that ` · ` keeps apart each by themselves."""
    if language != "zh" or not words:
        return words
    return " · ".join(map(_chinese, words.split(" · ")))


def retold(html: str, language: str) -> str:
    """HTML of ours, whose lines and names for screen readers are in a language; what users wrote is left alone."""
    return html if language == "en" else _OURS.sub(lambda found: found[1] + said(found[2], language), html)


_OURS = re.compile(
    r'(aria-label="|<p class="mr-line">|<h3>|<span class="mr-(?:run-facts|unseen)">'
    r'|<p class="mr-line" role="status"><span class="mr-dot" data-state="\w+"></span>)([^<"]+)'
)


def language_of(scope: Mapping[str, Any] | None) -> str:
    """The language that a request asks for first, of those that there are (Accept-Language)."""
    values = (value for name, value in (scope or {}).get("headers", ()) if name == b"accept-language")
    asked = ((_weight(part), part.partition(";")[0].strip().lower()) for part in _parts(values))
    for _, tag in sorted(asked, key=lambda one: -one[0]):
        if tag[:2] in LANGUAGES and tag[2:3] in ("", "-"):
            return tag[:2]
    return LANGUAGES[0]


def _parts(values: Iterable[bytes]) -> list[str]:
    return [part for value in values for part in value.decode("latin-1").split(",")][:50]


def _weight(part: str) -> float:
    found = re.search(r";\s*q=([01](?:\.\d{1,3})?)", part)
    return float(found[1]) if found else 1.0


@lru_cache(maxsize=2000)
def _chinese(words: str) -> str:
    exact = CHINESE.get(words)
    if exact is not None:
        return exact
    for pattern, there in _patterns():
        found = pattern.fullmatch(words)
        if found is not None:
            return there.format(*found.groups())
    return words


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Words with gaps, `{}`, as what fits them."""
    return [
        (re.compile(re.escape(words).replace(r"\{\}", "(.+)"), re.DOTALL), there)
        for words, there in CHINESE.items()
        if "{}" in words
    ]
