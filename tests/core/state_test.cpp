// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests {
namespace {

using testing::HasSubstr;

TEST(State, GivesBackWhatWasSetAndNamesWhatIsNot) {
  ta::State state;
  state.set("on", true).set("count", std::int64_t{3}).set("best", 0.5).set("name", "loss");
  state.set("rates", std::vector<double>{0.1, 0.2}).set_tensor("weight", torch::ones({2}));
  state.set("count", std::int64_t{4});
  EXPECT_TRUE(state.get<bool>("on"));
  EXPECT_EQ(state.get<std::int64_t>("count"), 4);
  EXPECT_EQ(state.get<std::string>("name"), "loss");
  EXPECT_EQ(state.get<std::vector<double>>("rates").size(), 2U);
  EXPECT_EQ(state.tensor("weight").numel(), 2);
  EXPECT_EQ(state.values().size(), 5U);
  EXPECT_THAT(message_of<ta::StateError>([&] { state.get<double>("count"); }),
              HasSubstr("'count' is of another type"));
  EXPECT_THAT(message_of<ta::StateError>([&] { state.get<double>("worst"); }),
              HasSubstr("no value 'worst'"));
  EXPECT_THAT(message_of<ta::StateError>([&] { state.tensor("bias"); }),
              HasSubstr("no tensor 'bias'"));
}

TEST(State, PartsComeBackUnderTheirOwnNames) {
  const auto part = ta::State().set("update", std::int64_t{7}).set_tensor("m", torch::zeros({1}));
  ta::State whole;
  whole.set("update", std::int64_t{1}).set_part("first", part).set_part("second", ta::State());
  const auto back = whole.part("first");
  EXPECT_EQ(back.get<std::int64_t>("update"), 7);
  EXPECT_EQ(back.tensor("m").numel(), 1);
  EXPECT_TRUE(whole.part("second").empty());
  EXPECT_EQ(whole.get<std::int64_t>("update"), 1);
}

}  // namespace
}  // namespace tests
