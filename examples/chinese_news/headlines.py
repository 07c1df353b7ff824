"""Headlines that are made up, of four topics."""

import random

TOPICS = ["体育", "财经", "科技", "娱乐"]
"""Sports, finance, technology, entertainment."""

_WHO = {
    "体育": ["国家队", "教练", "前锋", "球迷", "决赛"],
    "财经": ["央行", "股市", "银行", "投资者", "基金"],
    "科技": ["工程师", "芯片", "手机", "机器人", "卫星"],
    "娱乐": ["演员", "歌手", "导演", "新片", "演唱会"],
}
_WHAT = {
    "体育": ["赢得冠军", "输掉比赛", "打破纪录", "迎战对手", "受伤退赛"],
    "财经": ["下调利率", "大幅上涨", "公布财报", "关注通胀", "增加贷款"],
    "科技": ["发布新品", "升级系统", "训练模型", "成功发射", "使用算法"],
    "娱乐": ["获得大奖", "发行专辑", "票房大卖", "宣布结婚", "首次公演"],
}
_ENDS = ["", "，引发热议", "，今日公布", "，记者报道", "，专家表示"]


def make_headlines(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Texts, and for each the number of its topic."""
    chance = random.Random(seed)
    labels = [chance.randrange(len(TOPICS)) for _ in range(count)]
    topics = [TOPICS[label] for label in labels]
    texts = [chance.choice(_WHO[one]) + chance.choice(_WHAT[one]) + chance.choice(_ENDS) for one in topics]
    return texts, labels
