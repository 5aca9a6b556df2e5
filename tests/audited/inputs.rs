//! What is recorded of parameters.

use super::*;

#[tokio::test]
async fn patterns_are_recorded_whole_and_by_position() {
    #[audited(tool, skip(arg2))]
    fn patterns((a, mut b): (u8, u8), c: u8, _: u16, [d]: [u8; 1]) -> Result<u8, Failed> {
        b += a;
        Ok(b + c + d)
    }

    let fixture = Fixture::new();
    assert_eq!(fixture.session.run(|| patterns((1, 2), 3, 4, [5])).unwrap(), 11);
    let sink = fixture.recorded().await;
    let call = sink.tools().only();
    assert_eq!(call.input(), json!({"arg0": [1, 2], "c": 3, "arg3": [5]}));
    assert_eq!(call.attempted().omitted_inputs, ["arg2"]);
}

#[tokio::test]
async fn input_stands_in_for_the_parameters_and_skip_return_for_the_output() {
    #[audited(tool, input = json!({"len": secret.len()}), skip(return))]
    async fn digest(secret: String, bank: Bank) -> Result<Bank, Failed> {
        drop(secret);
        Ok(bank)
    }

    let fixture = Fixture::new();
    fixture.run(digest("four".into(), Bank::default())).await.unwrap();
    let sink = fixture.recorded().await;
    let call = sink.tools().only();
    assert_eq!(call.input(), json!({"len": 4}));
    assert_eq!(call.status(), Some(&ToolStatus::Ok));
    assert!(call.completion().unwrap().content("output").is_none());
}

#[tokio::test]
async fn inputs_are_recorded_as_they_were() {
    #[audited(tool)]
    async fn drains(list: &mut Vec<u8>) -> Result<usize, Failed> {
        Ok(list.drain(..).count())
    }

    let fixture = Fixture::new();
    fixture.run(drains(&mut vec![1, 2])).await.unwrap();
    assert_eq!(fixture.recorded().await.tools().only().input(), json!({"list": [1, 2]}));
}
