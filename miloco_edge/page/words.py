"""What the page says, in English and Chinese."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: dict[str, Language] = {"English": "en", "中文": "zh"}
"""What each language calls itself."""

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Ask your camera", "问问你的摄像头"),
    "promise": (
        "Pictures, questions and answers stay on this machine.",
        "画面、问题和回答都留在这台机器上。",
    ),
    "language": ("Language", "语言"),
    # What to look at.
    "look_at": ("Look at", "看什么"),
    "clip": ("Clip or recording", "视频或录像"),
    "pictures": ("Pictures", "图片"),
    "live": ("Webcam, live", "实时摄像头"),
    "camera": ("Camera", "网络摄像头"),
    "nothing": ("Nothing", "不看画面"),
    "frames": ("Frames", "帧数"),
    "frames_info": ("Sampled evenly; pairs become one.", "均匀采样，两帧合为一组。"),
    "resolution": ("Resolution: visual tokens per frame pair", "分辨率：每两帧的视觉词元数"),
    "resolution_info": ("One is 28×28 pixels.", "每个对应 28×28 像素。"),
    "which_camera": ("Which camera", "哪个摄像头"),
    "no_media": ("Give it something to look at first.", "请先提供画面。"),
    # How to answer.
    "ask_tab": ("Ask", "提问"),
    "conversation": ("Conversation", "对话"),
    "question": ("Question", "问题"),
    "question_hint": ("What is the person doing?", "这个人在做什么？"),
    "ask": ("Ask", "提问"),
    "stop": ("Stop", "停止"),
    "clear": ("New conversation", "新对话"),
    "controls": ("How to answer", "回答方式"),
    "think": ("Think first (off: /no_think)", "先思考（关闭即 /no_think）"),
    "think_tokens": ("Thinking budget, tokens", "思考预算（词元）"),
    "answer_tokens": ("Longest answer, tokens", "回答上限（词元）"),
    "deadline": ("Deadline, seconds (0: none)", "期限（秒，0 为不限）"),
    "smart_home": ('Smart-home answers: {"result": …}', '智能家居格式：{"result": …}'),
    # What an answer shows.
    "evidence": ("What the model saw, and when", "模型看到的画面与用时"),
    "thought": ("Thinking", "思考过程"),
    "looking": ("Looking …", "正在看……"),
    "no_picture": ("No picture", "无画面"),
    "one_frame": ("frame", "帧"),
    "many_frames": ("frames", "帧"),
    "visual_tokens": ("visual tokens", "个视觉词元"),
    "reused": ("the look was reused", "沿用已看过的画面"),
    "less": ("less than asked for, to fit", "为满足预算，少于所求"),
    "seconds": ("s", "秒"),
    "stage_wait": ("waiting its turn, page", "排队与页面"),
    "stage_video": ("decoding and resizing", "解码与缩放"),
    "stage_vision": ("vision encoder", "视觉编码"),
    "stage_look": ("prefill of the look", "画面预填充"),
    "stage_question": ("prefill of the question", "问题预填充"),
    "stage_generate": ("generating", "生成"),
    "ended_length": ("cut at the longest answer", "达到回答上限"),
    "ended_deadline": ("out of time", "超过期限"),
    "ended_cancelled": ("stopped", "已停止"),
    # Rules.
    "rules_tab": ("Rules", "规则"),
    "rules": ("Rules, one a line", "规则（每行一条）"),
    "rules_hint": (
        "Someone is reading\nThe TV is on",
        "有人在看书\n电视开着",
    ),
    "threshold": ("Threshold of p_yes", "p_yes 阈值"),
    "window": ("Window, seconds", "窗口（秒）"),
    "watch": ("Watch", "开始观察"),
    "odds": ("p_yes over time", "p_yes 随时间变化"),
    "time": ("Time", "时间"),
    "rule": ("Rule", "规则"),
    "holds": ("holds", "成立"),
    "not_holds": ("does not hold", "不成立"),
    "unknown": ("unknown", "未知"),
    "below_rules": ("Write a rule and press Watch.", "写下规则，然后点击“开始观察”。"),
    # Quantization.
    "quantize_tab": ("Quantized files", "量化文件"),
    "manifest": ("Manifest (.manifest.json)", "清单（.manifest.json）"),
    "own_manifest": ("The model that answers here", "当前使用的模型"),
    "file": ("File", "文件"),
    "size": ("Size", "大小"),
    "layer": ("layer", "层"),
    "error": ("error", "误差"),
    "other_weights": ("other weights", "其他权重"),
    "no_manifest": ("There is no manifest beside this model.", "此模型旁没有清单。"),
    "error_note": (
        "A cell is a weight of a layer: its colour is the type, its number the relative squared "
        "error (NMSE) in parts per million.",
        "每格是一层中的一个权重：颜色表示类型，数字为相对平方误差（NMSE，百万分之一）。",
    ),
}


def word(key: str, language: Language) -> str:
    """The page's word for `key`."""
    english, chinese = _WORDS[key]
    return chinese if language == "zh" else english


def preferred(accepted: str) -> Language:
    """The language that a browser's Accept-Language header asks for first; English if neither."""
    for part in accepted.split(","):
        tag = part.split(";")[0].strip().lower()
        if tag.startswith("zh"):
            return "zh"
        if tag.startswith("en"):
            return "en"
    return "en"
